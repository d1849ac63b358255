"""From the network of an ONNX file to a converted model: with preprocessing, cuts and pooling."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.catalog.onnx.options import OnnxOptions
from headstart.common.errors import InputError
from headstart.common.files import expect_room
from headstart.common.openvino_runtime import openvino
from headstart.common.progress import notify
from headstart.extraction.bottleneck import Bottleneck, NoMap
from headstart.extraction.engines.onnx_graph import (
    channel_axis,
    describe,
    find_tensor,
    read_graph,
    size_up_to,
)
from headstart.extraction.network_size import NetworkSize

_OPS = openvino.opset13


def convert(
    bottleneck: Bottleneck, output_names: Sequence[str], path: Path
) -> tuple[NetworkSize, ...]:
    """Write the model that takes pixels and gives features, for one image per call.

    Args:
        bottleneck: What to compute.
        output_names: One per tap.
        path: The .xml file; the weights go to a .bin file beside it.

    Returns:
        The size of the network up to each tap.

    Raises:
        InputError: the network cannot be used so; the message says why.
    """
    model, sizes = assemble(bottleneck, output_names)
    expect_room(path.parent, 4 * bottleneck.spec.parameters)
    openvino.save_model(model, path, compress_to_fp16=False)
    return sizes


def assemble(
    bottleneck: Bottleneck, output_names: Sequence[str]
) -> tuple[Any, tuple[NetworkSize, ...]]:
    """Return the model of `convert` and the sizes of the network up to each tap.

    Raises:
        InputError: the network cannot be used so; the message says why.
    """
    options, file = bottleneck.onnx, bottleneck.weights.path
    if options is None or file is None:
        raise ValueError("the network of a file is fed as section extract.onnx says")
    model = read_graph(file, options, bottleneck.image_size)
    tensors = [find_tensor(model, file, tap.layer) for tap in bottleneck.taps]
    sizes = tuple(map(size_up_to, tensors))
    features = [
        _Pooling(file, options, bottleneck.image_size, tap.layer)(tensor, tap.pooling)
        for tensor, tap in zip(tensors, bottleneck.taps, strict=True)
    ]
    for output, name in zip(features, output_names, strict=True):
        output.set_names({name})
    images = _feed(model, file, options, bottleneck.image_size)
    return openvino.Model(features, [images]), sizes


def _feed(model: Any, file: Path, options: OnnxOptions, size: tuple[int, int]) -> Any:
    """Put the way from pixels before the network's input; return the new input, `images`."""
    (parameter,) = model.get_parameters()
    kind = parameter.get_element_type()
    images = _OPS.parameter([1, *size, 3], np.uint8, name="images")
    rule = options.preprocessing
    matrix, offset = rule.affine()
    if kind.is_real():
        pixels = _OPS.convert(images, "f32")
        if options.channels == "bgr":
            pixels = _OPS.gather(pixels, _indices([2, 1, 0]), np.int64(3))
        pixels = _OPS.multiply(pixels, matrix.sum(axis=0))
        pixels = _OPS.add(pixels, offset)
    elif (rule.divisor, rule.mean, rule.std) == (1.0, (0.0,) * 3, (1.0,) * 3):
        pixels = images
        if options.channels == "bgr":
            pixels = _OPS.gather(pixels, _indices([2, 1, 0]), np.int64(3))
    else:
        raise InputError(
            f"extract.onnx: {file} takes whole numbers ({kind.get_type_name()}), so it scales "
            "them itself; expected scale: 1, mean: [0, 0, 0] and std: [1, 1, 1]"
        )
    if options.layout == "nchw":
        pixels = _OPS.transpose(pixels, _indices([0, 3, 1, 2]))
    pixels = _OPS.convert(pixels, kind.get_type_name())
    for reader in parameter.output(0).get_target_inputs():
        reader.replace_source_output(pixels.output(0))
    return images


class _Pooling:
    """What is done to a tensor, as `extract.pooling` says."""

    def __init__(self, file: Path, options: OnnxOptions, size: tuple[int, int], layer: str) -> None:
        self._file = file
        self._options = options
        self._size = size
        self._layer = layer

    def __call__(self, tensor: Any, pooling: str) -> Any:
        """Return the output of float32 that gives (1, *feature_shape)."""
        shape = tuple(tensor.get_shape())
        # Averaging is done in full precision, whatever the network computes in.
        values = _OPS.convert(tensor, "f32")
        if len(shape) == 2:
            pooled = self._of_vector(values, pooling, shape)
        elif len(shape) == 4:
            pooled = self._of_map(values, pooling, shape, channel_axis(tensor, self._options))
        else:
            pooled = self._of_tokens(values, pooling, shape)
        return pooled.output(0)

    def _of_vector(self, values: Any, pooling: str, shape: tuple[int, ...]) -> Any:
        if pooling not in ("avg", "max", "none"):
            raise self._misfit(
                pooling, shape, "a vector", "avg, max or none, which leave it as it is"
            )
        return values

    def _of_map(self, values: Any, pooling: str, shape: tuple[int, ...], axis: int) -> Any:
        spatial = [other for other in (1, 2, 3) if other != axis]
        if pooling == "none":
            return _OPS.transpose(values, _indices([0, *spatial, axis]))
        if pooling == "avg":
            return _OPS.reduce_mean(values, _indices(spatial))
        if pooling == "max":
            return _OPS.reduce_max(values, _indices(spatial))
        raise self._misfit(pooling, shape, "a map", "avg, max or none")

    def _of_tokens(self, values: Any, pooling: str, shape: tuple[int, ...]) -> Any:
        prefix, (_, count, channels) = self._options.prefix_tokens, shape
        if prefix >= count:
            raise InputError(
                f"extract.onnx.prefix_tokens: {self._file}: {self._layer} has {count} tokens, "
                f"received {prefix} before the patches; expected fewer than there are"
            )
        if "cls" in pooling and not prefix:
            raise InputError(
                f"extract.pooling: {self._file}: {pooling} takes the first token of {self._layer} "
                f"({describe(shape)}), and extract.onnx.prefix_tokens says that there is none "
                "before the patches; expected 1 of most vision transformers"
            )
        first = _tokens(values, 0, 1)
        patches = _tokens(values, prefix, count)
        grid = self._grid(count - prefix)
        if pooling == "none":
            if grid is None:
                raise NoMap(
                    f"extract.pooling: {self._file}: the {count - prefix} tokens of {self._layer} "
                    f"are no grid over an image of {self._size[0]} x {self._size[1]}; expected "
                    f"avg or max, or another extract.onnx.prefix_tokens than {prefix}; "
                    f"received {pooling}"
                )
            return _OPS.reshape(patches, _indices([1, *grid, channels]), special_zero=False)
        if grid is None and self._grid(count - prefix - 1) is not None:
            notify(
                f"warning: {self._layer} gives {count} tokens, which are no grid of patches; if "
                f"the first is a class token, set extract.onnx.prefix_tokens: {prefix + 1}"
            )
        if pooling == "cls":
            return _OPS.squeeze(first, _indices([1]))
        if pooling == "max":
            return _OPS.reduce_max(patches, _indices([1]))
        mean = _OPS.reduce_mean(patches, _indices([1]))
        if pooling == "avg":
            return mean
        if pooling == "cls+avg":
            return _OPS.concat([_OPS.squeeze(first, _indices([1])), mean], 1)
        raise self._misfit(pooling, shape, "tokens of one layer", "cls, avg, cls+avg, max or none")

    def _grid(self, count: int) -> tuple[int, int] | None:
        """Return (height, width) of so many patches over the image; None where they are no grid."""
        height = round((count * self._size[0] / self._size[1]) ** 0.5)
        return (height, count // height) if height and count % height == 0 else None

    def _misfit(self, pooling: str, shape: tuple[int, ...], what: str, expected: str) -> InputError:
        return InputError(
            f"extract.pooling: {self._file}: {self._layer} is {what} ({describe(shape)}); expected "
            f"{expected}; received {pooling}"
        )


def _tokens(values: Any, start: int, stop: int) -> Any:
    return _OPS.slice(values, _indices([start]), _indices([stop]), _indices([1]), _indices([1]))


def _indices(values: Sequence[int]) -> Any:
    return _OPS.constant(np.array(values, np.int64))
