import io
import subprocess

import pytest
from ruamel.yaml import YAML

from headstart.commands.compare.candidates import make_candidates, parse_over
from headstart.common.errors import InputError

PARAMS = {
    "prepare": {"seed": 0},
    "extract": {
        "backbone": "EfficientNetLite0",
        "layer": "block_3",
        "weights": "my.weights.h5",
        "image_size": "auto",
        "pooling": "avg",
    },
    "train": {"seed": 0, "heads": {"dense": {"units": [256]}}},
}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("extract.layer=block_3,auto", ["block_3", "auto"]),
        ("extract.image_size=[96, 128],160,auto", [[96, 128], 160, "auto"]),
        ("train.heads.dense.learning_rate=1e-3,1e-2", [0.001, 0.01]),
        ("train.refit=true", [True]),
        ("extract.layer='a,b'", ["a,b"]),
    ],
)
def test_values_are_yaml_as_in_params(text: str, values: list) -> None:
    assert parse_over(text) == (text.partition("=")[0], values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extract.layer", "expected KEY=VALUE,VALUE"),
        ("layer=a,b", "expected KEY=VALUE,VALUE"),
        ("extract.layer=", "at least one value"),
        ("extract.layer=[a", "not valid YAML"),
        ("extract.layer=a,b,a", "named twice"),
    ],
)
def test_malformed_grid_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_over(text)


def test_backbones_and_grid_are_combined_each_with_each() -> None:
    candidates = make_candidates(
        ["LeNet5", "AlexNet"],
        [("extract.layer", ["auto", "a/b"]), ("train.seed", [1, 2])],
        PARAMS,
    )
    assert len(candidates) == 8
    assert candidates[1].label == "LeNet5, layer=auto, seed=2"
    assert candidates[1].content["extract"]["backbone"] == "LeNet5"
    assert candidates[1].content["train"]["seed"] == 2
    assert PARAMS["train"]["seed"] == 0


def test_comments_of_params_stay() -> None:
    text = "extract:\n  layer: auto  # a cut\n"
    _, other = make_candidates([], [("extract.layer", ["auto", "top"])], YAML().load(text))
    written = io.StringIO()
    YAML().dump(other.content, written)
    assert written.getvalue().split() == text.replace("auto", "top").split()


def test_equal_last_words_are_shown_in_full() -> None:
    (first, *_) = make_candidates([], [("prepare.seed", [1, 2]), ("train.seed", [3])], PARAMS)
    assert first.label == "prepare.seed=1, train.seed=3"


def test_cut_and_weights_file_stay_with_their_backbone() -> None:
    own, other = make_candidates(["EfficientNetLite0", "LeNet5"], [], PARAMS)
    assert own.content["extract"]["layer"] == "block_3"
    assert own.content["extract"]["weights"] == "my.weights.h5"
    assert other.content["extract"]["layer"] == "auto"
    assert other.content["extract"]["weights"] == "pretrained"


def test_what_a_backbone_cannot_have_of_another_is_its_own() -> None:
    mine = {"backbone": "DINOv2Small", "pooling": "cls+avg", "image_size": 56}
    params = {**PARAMS, "extract": {**PARAMS["extract"], **mine}}
    names = ["DINOv2Small", "EfficientNetLite0", "DeiTTiny", "DINOv3Small"]
    candidates = make_candidates(names, [], params)
    chosen = [
        (one.content["extract"]["pooling"], one.content["extract"]["image_size"])
        for one in candidates
    ]
    # DINOv3 takes multiples of 16.
    assert chosen == [("cls+avg", 56), ("avg", 56), ("cls+avg", "auto"), ("cls+avg", "auto")]
    assert [one.label for one in candidates] == [
        "DINOv2Small",
        "EfficientNetLite0, pooling=avg",
        "DeiTTiny, image_size=auto",
        "DINOv3Small, image_size=auto",
    ]


def test_weights_may_stand_beside_their_backbone() -> None:
    one, own, other = make_candidates(
        ["LeNet5:random", "EfficientNetLite0:models/a.weights.h5", "AlexNet"], [], PARAMS
    )
    assert one.label == "LeNet5:random"
    assert one.content["extract"]["backbone"] == "LeNet5"
    assert one.content["extract"]["weights"] == "random"
    assert one.content["extract"]["layer"] == "auto"
    assert own.content["extract"]["weights"] == "models/a.weights.h5"
    assert other.content["extract"]["weights"] == "pretrained"


@pytest.mark.parametrize(
    ("names", "grid", "message"),
    [
        (["LeNet5", "LeNet5"], [], "backbone LeNet5 is named twice"),
        ([], [("train.seed", [1]), ("train.seed", [2])], "key train.seed is named twice"),
        (["LeNet5"], [("extract.backbone", ["AlexNet"])], "extract.backbone is named twice"),
        (["LeNet5:random"], [("extract.weights", ["a"])], "key extract.weights is named twice"),
        (["LeNet5"], [], "at least two candidates, received LeNet5"),
        ([], [("extract.layr", ["a", "b"])], "no key extract.layr; did you mean extract.layer"),
        ([], [("extract.layer.x", ["a", "b"])], "no key extract.layer.x; there is none"),
    ],
)
def test_useless_comparisons_are_refused(names: list, grid: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_candidates(names, grid, PARAMS)


def test_names_of_experiments_are_accepted_by_git_and_tell_states_apart() -> None:
    values = ["a b", "..x~^:?*[\\", "고양이", "y" * 300, "a.b.lock"]
    candidates = make_candidates([], [("extract.layer", values)], PARAMS)
    names = [candidate.experiment("tree") for candidate in candidates]
    assert len(set(names)) == len(names)
    for name in names:
        subprocess.run(["git", "check-ref-format", f"refs/exps/ab/{name}"], check=True)
        assert len(name) < 100
    assert candidates[0].experiment("other tree") != names[0]
    assert candidates[0].experiment("tree") == names[0]
