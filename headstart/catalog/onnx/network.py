"""The network of an ONNX file as a backbone: its entry, its weights, and the tensors to take."""

import difflib
from pathlib import Path
from typing import Literal

from headstart.catalog.onnx import NAME, SUFFIX
from headstart.catalog.onnx.file import OnnxFile, Shape, TensorFacts, read
from headstart.catalog.onnx.options import OnnxOptions
from headstart.catalog.spec import BackboneSpec
from headstart.catalog.weights import WeightsIdentity
from headstart.common.errors import InputError

AXES = {"nchw": (2, 3, 1), "nhwc": (1, 2, 3)}
"""Where height, width and channels of the input stand, by `extract.onnx.layout`."""

_NEAR = 3
"""Names of tensors that an error suggests."""


def open_file(weights: str) -> OnnxFile:
    """Read the file that `extract.weights` names.

    Raises:
        InputError: it names none, or see `headstart.catalog.onnx.file.read`.
    """
    if not weights.endswith(SUFFIX):
        raise InputError(
            f"weights: backbone {NAME} is the network of a file: expected a path ending in "
            f"{SUFFIX}, received {weights!r}"
        )
    return read(Path(weights))


def resolved(file: OnnxFile, options: OnnxOptions) -> OnnxOptions:
    """Return the options with the name of the input, which they may leave out.

    Raises:
        InputError: the network has several inputs or none, it has none of that name, or the input
            is no RGB image in that layout.
    """
    names = [tensor.name for tensor in file.inputs]
    if len(names) != 1:
        raise InputError(
            f"weights: {file.path}: expected a network with one input, the image; it has "
            f"{len(names)} ({', '.join(names)}); export the part that takes the image alone"
        )
    if options.input not in (None, names[0]):
        raise InputError(
            f"extract.onnx.input: expected the name of an input of {file.path} ({names[0]}), "
            f"received {options.input!r}"
        )
    _check_channels(file, file.inputs[0], options)
    return options.model_copy(update={"input": names[0]})


def image_size(
    file: OnnxFile, options: OnnxOptions, wanted: Literal["auto"] | int | list[int]
) -> tuple[int, int]:
    """Return (height, width) in pixels that the network takes.

    Args:
        file: The network.
        options: With its input's layout.
        wanted: As `extract.image_size` has it.

    Raises:
        InputError: the network takes one size, and it is another; or it takes any, and none is
            named.
    """
    height, width, _ = AXES[options.layout]
    shape = file.inputs[0].shape or (None,) * 4
    fixed = (shape[height], shape[width])
    if wanted == "auto":
        if None in fixed:
            raise InputError(
                f"image_size: {file.path} takes images of several sizes ({_text(shape)}); expected "
                "the one that it was trained for, in pixels, such as 224; received auto"
            )
        return (fixed[0] or 0, fixed[1] or 0)
    size = (wanted, wanted) if isinstance(wanted, int) else (wanted[0], wanted[1])
    if any(side not in (None, asked) for side, asked in zip(fixed, size, strict=True)):
        raise InputError(
            f"image_size: {file.path} takes {_text(shape)} ({options.layout}) alone, received "
            f"{size[0]} x {size[1]}; use auto, or export it anew for other sizes"
        )
    return size


def resolve_layer(file: OnnxFile, layer: str) -> str:
    """Return the name of the tensor that is meant.

    Args:
        file: The network.
        layer: Its name, or "auto" for the network's first output.

    Raises:
        InputError: the network computes no tensor of that name; the message suggests some.
    """
    if layer == "auto":
        return file.outputs[0].name
    if layer not in file.tensors:
        near = difflib.get_close_matches(layer, file.tensors, n=_NEAR, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(
            f"extract.layer: {file.path} computes no tensor {layer!r}; {hint}`headstart backbones "
            f"{file.path} --cuts` lists them; auto is {file.outputs[0].name}"
        )
    return layer


def spec_of(file: OnnxFile, options: OnnxOptions, size: tuple[int, int]) -> BackboneSpec:
    """Return an entry as the catalog has one for each of its own backbones."""
    return BackboneSpec(
        name=NAME,
        family="ONNX",
        default_size=size,
        min_size=1,
        feature_layer=file.outputs[0].name,
        feature_dim=_feature_dim(file.outputs[0], options),
        preprocessing=options.preprocessing,
        interpolation=options.interpolation,
        pretrained=None,
        parameters=file.parameters,
        depth=None,
        top1=None,
        top5=None,
        size_mb=round(sum(path.stat().st_size for path in file.files) / 1e6, 1),
        source=str(file.path),
    )


def weights_of(file: OnnxFile) -> WeightsIdentity:
    """Return where the weights lie, and their digest."""
    made = f", made by {file.producer}" if file.producer else ""
    return WeightsIdentity(
        kind="file",
        path=file.path,
        sha256=file.sha256,
        seed=None,
        description=f"{file.path}{made}",
    )


def _check_channels(file: OnnxFile, tensor: TensorFacts, options: OnnxOptions) -> None:
    shape = tensor.shape or (None,) * 4
    if len(shape) != 4:
        raise InputError(
            f"weights: {file.path}: expected an input of 4 axes ({options.layout}), it has "
            f"{_text(shape)}; export a network that takes images"
        )
    *_, channels = AXES[options.layout]
    if shape[channels] not in (None, 3):
        other = "nhwc" if options.layout == "nchw" else "nchw"
        remedy = (
            f"set extract.onnx.layout: {other}"
            if shape[AXES[other][2]] == 3
            else "export a network that takes RGB images"
        )
        raise InputError(
            f"weights: {file.path}: expected an input of 3 channels at axis {channels} "
            f"(extract.onnx.layout: {options.layout}), it has {_text(shape)}; {remedy}"
        )


def _feature_dim(output: TensorFacts, options: OnnxOptions) -> int:
    """Return the number of channels that the file tells; 0 where it tells none."""
    shape = output.shape or (None,)
    axis = 1 if len(shape) == 4 and options.layout == "nchw" else -1
    return shape[axis] or 0


def _text(shape: Shape) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape) or "none"
