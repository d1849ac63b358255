from typing import Any

import pytest

from headstart import catalog
from headstart.catalog.building import build_architecture
from headstart.catalog.cuts import find_cuts, get_cut, multiply_adds, tensor_at
from headstart.common.errors import InputError
from headstart.common.tensorflow_runtime import keras

layers = keras.layers


def built(name: str, side: int = 64) -> Any:
    return build_architecture(catalog.get(name), (side, side), seed=0)


@pytest.fixture(scope="module")
def mobile() -> Any:
    return built("MobileNetV2")


def crossed_by_all_paths(model: Any) -> set[str]:
    """Return the operations without which the output cannot be reached, found by trying each."""
    edges: dict[str, set[str]] = {}
    for operation in model.operations:
        for tensor in operation._inbound_nodes[-1].arguments.keras_tensors:
            edges.setdefault(tensor._keras_history.operation.name, set()).add(operation.name)
    start, end = model.operations[0].name, model.output._keras_history.operation.name

    def reaches(removed: str) -> bool:
        seen, waiting = {start}, [start]
        while waiting:
            for following in edges.get(waiting.pop(), ()):
                if following != removed and following not in seen:
                    seen.add(following)
                    waiting.append(following)
        return end in seen

    names = {operation.name for operation in model.operations} - {start}
    return {name for name in names if not reaches(name)}


def test_cuts_are_exactly_the_tensors_that_every_path_crosses(mobile: Any) -> None:
    for model in (mobile, built("GoogLeNet")):
        assert {cut.name for cut in find_cuts(model)} == crossed_by_all_paths(model)


def test_nothing_is_a_cut_that_a_longer_path_leads_past() -> None:
    """As in NASNet, whose cells take the outputs of the two cells before them."""
    inputs = keras.Input((4, 4, 3))
    stem = layers.Conv2D(3, 1, name="stem")(inputs)
    one = layers.Conv2D(3, 1, name="one")(stem)
    two = layers.Add(name="two")([stem, layers.Conv2D(3, 1)(one)])
    three = layers.Add(name="three")([one, two])
    outputs = layers.ReLU(name="last")(three)
    cuts = find_cuts(keras.Model(inputs, outputs))
    assert [cut.name for cut in cuts] == ["stem", "three", "last"]
    assert [cut.merges for cut in cuts] == [False, True, False]


def test_the_ends_of_blocks_are_cuts_and_the_insides_are_not(mobile: Any) -> None:
    merges = [cut.name for cut in find_cuts(mobile) if cut.merges]
    assert merges == [f"block_{number}_add" for number in (2, 4, 5, 7, 8, 9, 11, 12, 14, 15)]
    names = {cut.name for cut in find_cuts(mobile)}
    assert "block_2_expand" not in names
    assert "block_1_expand" in names  # Nothing leads past a block that changes the size.


def test_what_lies_below_and_above_adds_up(mobile: Any) -> None:
    cuts = find_cuts(mobile)
    for cut in cuts:
        assert cut.parameters_below + cut.parameters_above == mobile.count_params()
        assert cut.multiply_adds_below + cut.multiply_adds_above == multiply_adds(mobile)
        below = keras.Model(mobile.input, tensor_at(mobile, cut.name))
        assert below.count_params() == cut.parameters_below
        assert tuple(below.output.shape[1:]) == cut.shape
    assert cuts[-1].name == "out_relu"
    assert (cuts[-1].parameters_above, cuts[-1].multiply_adds_above) == (0, 0)


def test_the_model_splits_at_a_cut() -> None:
    import numpy as np

    model = built("GoogLeNet")
    middle = tensor_at(model, "inception_4c")
    below, above = keras.Model(model.input, middle), keras.Model(middle, model.output)
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(above(below(images))), np.asarray(model(images)))


@pytest.mark.parametrize(
    ("name", "side", "published"),
    [
        # Millions, without the classifier: Simonyan and Zisserman's VGG16 and He's ResNet-50 as
        # counted by everybody, Sandler et al. 2018 table 4, Szegedy et al. 2015 table 1.
        ("VGG16", 224, 15_347),
        ("ResNet50", 224, 3_856),
        ("MobileNetV2", 224, 299),
        ("GoogLeNet", 224, 1_582),
    ],
)
def test_multiply_adds_are_the_published_ones(name: str, side: int, published: int) -> None:
    assert multiply_adds(built(name, side)) / 1e6 == pytest.approx(published, abs=1)


def test_multiply_adds_of_each_kind_of_layer() -> None:
    inputs = keras.Input((8, 6, 4))
    x = layers.Conv2D(10, 3, padding="same", groups=2)(inputs)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)(x)
    x = layers.SeparableConv2D(5, 3, padding="same")(x)
    x = layers.Conv2DTranspose(7, 2, 2)(x)
    x = keras.Sequential([layers.BatchNormalization(), layers.Dense(3)])(x)
    expected = (
        8 * 6 * 3 * 3 * 2 * 10
        + 4 * 3 * 3 * 3 * 20
        + 4 * 3 * (3 * 3 * 20 + 20 * 5)
        + 4 * 3 * 2 * 2 * 5 * 7
        + 8 * 6 * 7 * 3
    )
    assert multiply_adds(keras.Model(inputs, x)) == expected


def test_a_cut_is_found_by_name_and_auto_is_the_last(mobile: Any) -> None:
    assert get_cut(mobile, "block_5_add").shape == (8, 8, 32)
    assert get_cut(mobile, "auto").name == "out_relu"


def test_a_layer_that_is_no_cut_is_refused_with_the_cuts_around_it(mobile: Any) -> None:
    message = (
        r"layer: 'block_5_expand' is a layer, but other paths lead past it, so it is no cut; "
        r"cuts near it: block_3_project_BN, block_4_add, block_5_add, block_6_expand"
    )
    with pytest.raises(InputError, match=message):
        get_cut(mobile, "block_5_expand")


@pytest.mark.parametrize(("name", "near"), [("block5_add", "block_5_add"), ("zzz", "out_relu")])
def test_a_misspelled_layer_is_answered_with_near_cuts(mobile: Any, name: str, near: str) -> None:
    with pytest.raises(InputError, match=rf"there is no layer '{name}'; cuts near it: .*{near}"):
        get_cut(mobile, name)


def test_automatic_names_do_not_depend_on_what_was_built_before() -> None:
    first = [cut.name for cut in find_cuts(built("MobileNetV3Small"))]
    keras.layers.Activation("relu")
    assert [cut.name for cut in find_cuts(built("MobileNetV3Small"))] == first
    assert first[-1] == catalog.get("MobileNetV3Small").feature_layer
