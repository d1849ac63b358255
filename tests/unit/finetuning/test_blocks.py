from collections.abc import Callable

import pytest

from headstart import catalog
from headstart.catalog.building import build_architecture
from headstart.catalog.readout import Readout
from headstart.common.errors import InputError
from headstart.finetuning.blocks import block_of_layers, block_starts, resolve_unfreeze


@pytest.fixture(scope="module")
def build() -> Callable[[str], object]:
    built = {}

    def make(name: str) -> object:
        if name not in built:
            spec = catalog.get(name)
            built[name] = build_architecture(spec, (64, 64), seed=0)
        return built[name]

    return make


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("VGG16", "block4_pool"),  # a chain: what works at the last resolution
        ("LeNet5", "s4"),
        ("GoogLeNet", "inception_5a"),  # concatenated branches
        ("ResNet50", "conv5_block2_out"),  # added branches
        ("EfficientNetLite0", "block6d_add"),  # the last block is a plain stretch
        ("EfficientNetB0", "block6d_add"),  # ... with squeeze-and-excitation in it
        ("EfficientNetV2B0", "block6g_add"),  # a last convolution that is no block of its own
    ],
)
def test_last_block(build: Callable, name: str, expected: str) -> None:
    cut = resolve_unfreeze(build(name), "last_block")
    assert cut is not None
    assert cut.name == expected


def test_blocks_from_the_top_down(build: Callable) -> None:
    vgg16 = build("VGG16")
    assert [cut.name for cut in block_starts(vgg16)] == [
        "block4_pool",
        "block3_pool",
        "block2_pool",
        "block1_pool",
    ]
    blocks = block_of_layers(vgg16)
    assert blocks["block5_pool"] == blocks["block5_conv1"] == 0
    assert blocks["block4_pool"] == blocks["block4_conv1"] == 1
    assert blocks["block1_conv1"] == 4


def test_last_block_below_an_earlier_layer(build: Callable) -> None:
    truncated = Readout("avg", None, (64, 64)).up_to(build("VGG16"), "block4_pool")
    cut = resolve_unfreeze(truncated, "last_block")
    assert cut is not None
    assert cut.name == "block3_pool"


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
def test_share_of_the_parameters_is_not_exceeded(build: Callable, share: float) -> None:
    backbone = build("EfficientNetLite0")
    cut = resolve_unfreeze(backbone, share)
    assert cut is not None
    total = cut.parameters_above + cut.parameters_below
    if share == 0.05:
        # The last convolution alone has more; without it nothing would learn.
        assert cut.name == "block7a_project_bn"
    else:
        assert 0 < cut.parameters_above <= share * total


def test_a_larger_share_cuts_lower(build: Callable) -> None:
    backbone = build("VGG16")
    shares = [0.1, 0.3, 0.5, 0.8, 0.99]
    above = [resolve_unfreeze(backbone, share).parameters_above for share in shares]
    assert above == sorted(above)
    assert len(set(above)) > 3


def test_everything(build: Callable) -> None:
    assert resolve_unfreeze(build("LeNet5"), "all") is None
    assert resolve_unfreeze(build("LeNet5"), "scratch") is None


def test_named_cut(build: Callable) -> None:
    cut = resolve_unfreeze(build("VGG16"), "block3_conv1")
    assert cut is not None
    assert cut.name == "block3_conv1"


def test_no_such_cut(build: Callable) -> None:
    with pytest.raises(InputError, match=r"finetune.unfreeze: .*there is no layer 'block9_conv1'"):
        resolve_unfreeze(build("VGG16"), "block9_conv1")
