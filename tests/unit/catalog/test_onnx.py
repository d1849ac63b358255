"""What an ONNX file says of its network, and what is said of one that cannot be used."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from headstart.catalog.onnx import network
from headstart.catalog.onnx.file import TensorFacts, read
from headstart.catalog.onnx.options import OnnxOptions
from headstart.common.errors import InputError
from headstart.common.files import sha256_of
from tests import onnx_graphs as graphs


def test_what_a_file_says(tmp_path: Path) -> None:
    path = graphs.conv_net(tmp_path / "net.onnx")
    file = read(path)
    assert file.producer == "tests 1"
    assert file.inputs == [TensorFacts("images", (None, 3, 32, 32))]
    assert file.outputs == [TensorFacts("logits", (None, 5))]
    assert file.tensors == ["stem", "stem_relu", "branch", "block", "pool", "flat", "logits"]
    assert file.parameters == 8 * 27 + 8 + 8 * 72 + 8 * 5
    assert file.files == [path]
    assert file.sha256 == sha256_of(path)


def test_shapes_and_indices_are_no_parameters(tmp_path: Path) -> None:
    path = graphs.vit(tmp_path / "vit.onnx")
    counted = sum(
        onnx.numpy_helper.to_array(tensor).size
        for tensor in onnx.load(path).graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    )
    assert read(path).parameters == counted


def test_weights_among_the_inputs_are_none(tmp_path: Path) -> None:
    path = graphs.conv_net(tmp_path / "net.onnx")
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(info)
    onnx.save(model, path)
    assert [tensor.name for tensor in read(path).inputs] == ["images"]


def test_its_entry(tmp_path: Path) -> None:
    file = read(graphs.conv_net(tmp_path / "net.onnx"))
    spec = network.spec_of(file, OnnxOptions(interpolation="bicubic"), (32, 32))
    assert (spec.name, spec.default_size, spec.feature_layer, spec.feature_dim) == (
        "onnx",
        (32, 32),
        "logits",
        5,
    )
    assert spec.interpolation == "bicubic"
    # Source: torchvision's and timm's numbers for ImageNet.
    assert spec.preprocessing.mean == (0.485, 0.456, 0.406)
    assert spec.preprocessing.std == (0.229, 0.224, 0.225)


def damaged(path: Path) -> Path:
    content = graphs.conv_net(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def another(path: Path) -> Path:
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)))
    return path


def zeros(path: Path) -> Path:
    path.write_bytes(bytes(1000))
    return path


def without_output(path: Path) -> Path:
    model = onnx.load(graphs.conv_net(path))
    del model.graph.output[:]
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("make", [damaged, empty, another, zeros, without_output])
def test_no_onnx_file(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "net.onnx")
    with pytest.raises(InputError, match=r"^weights: .*net\.onnx: expected an ONNX file, received"):
        read(path)


def test_every_cut_file_is_told(tmp_path: Path) -> None:
    content = graphs.conv_net(tmp_path / "net.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for size in range(0, len(content), 97):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match="expected an ONNX file"):
            read(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.onnx: no such file"):
        network.open_file(str(tmp_path / "gone.onnx"))


@pytest.mark.parametrize("weights", ["pretrained", "random", "model.h5"])
def test_it_needs_a_file(weights: str) -> None:
    with pytest.raises(InputError, match=rf"a path ending in \.onnx, received '{weights}'"):
        network.open_file(weights)


@pytest.mark.parametrize("location", ["../secrets", "/etc/passwd", "..\\secrets"])
def test_weights_elsewhere_are_not_read(tmp_path: Path, location: str) -> None:
    path = graphs.conv_net(tmp_path / "net.onnx")
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="expected a file in the folder of the model"):
        read(path)


def two_inputs(path: Path) -> Path:
    return graphs.conv_net(path, more_inputs=["threshold"])


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (two_inputs, {}, r"one input, the image; it has 2 \(images, threshold\)"),
        (
            graphs.conv_net,
            {"input": "pixels"},
            r"input of .*onnx \(images\), received 'pixels'",
        ),
        (graphs.nhwc_net, {}, r"1 x 32 x 32 x 3; set extract\.onnx\.layout: nhwc"),
        (
            graphs.conv_net,
            {"layout": "nhwc"},
            r"3 x 32 x 32; set extract\.onnx\.layout: nchw",
        ),
        (
            lambda path: graphs.conv_net(path, (1, 1, 32, 32)),
            {},
            "3 channels at axis 1 .*1 x 1 x 32 x 32; export a network that takes RGB",
        ),
        (lambda path: graphs.conv_net(path, (1, 3072)), {}, "an input of 4 axes .*1 x 3072"),
    ],
)
def test_inputs_that_take_no_image(
    tmp_path: Path, make: Callable[[Path], Path], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        network.resolved(read(make(tmp_path / "net.onnx")), OnnxOptions(**options))


def test_a_size_that_the_file_does_not_have(tmp_path: Path) -> None:
    file = read(graphs.conv_net(tmp_path / "net.onnx"))
    assert network.image_size(file, OnnxOptions(), "auto") == (32, 32)
    assert network.image_size(file, OnnxOptions(), 32) == (32, 32)
    with pytest.raises(InputError, match="any x 3 x 32 x 32 .*alone, received 64 x 48; use auto"):
        network.image_size(file, OnnxOptions(), [64, 48])


def test_a_misspelled_layer(tmp_path: Path) -> None:
    file = read(graphs.conv_net(tmp_path / "net.onnx"))
    assert network.resolve_layer(file, "auto") == "logits"
    with pytest.raises(InputError, match=r"no tensor 'blok'; did you mean block\?.*auto is logits"):
        network.resolve_layer(file, "blok")


@pytest.mark.parametrize("seed", range(4))
def test_changed_bytes_end_in_one_error_or_none(tmp_path: Path, seed: int) -> None:
    content = graphs.vit(tmp_path / "vit.onnx").read_bytes()
    path = tmp_path / "changed.onnx"
    rng = np.random.default_rng(seed)
    for _ in range(100):
        changed = np.frombuffer(content, np.uint8).copy()
        changed[rng.integers(len(changed), size=3)] = rng.integers(256, size=3)
        path.write_bytes(changed.tobytes())
        with suppress(InputError):
            read(path)
