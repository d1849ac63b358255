"""Small seeded networks as ONNX files, as other programs would export them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


class Weights:
    """Seeded initializers of a graph."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self.tensors: list[onnx.TensorProto] = []

    def normal(self, name: str, *shape: int) -> str:
        """Add one of this name and shape; return the name."""
        fan_in = max(1, int(np.prod(shape[1:])))
        values = self._rng.normal(0, fan_in**-0.5, shape).astype(np.float32)
        self.tensors.append(numpy_helper.from_array(values, name))
        return name

    def given(self, name: str, values: Sequence[int]) -> str:
        """Add whole numbers, such as a shape."""
        self.tensors.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name


def node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    """Return an operator; inputs are separated by spaces."""
    return helper.make_node(kind, inputs.split(), [output], name=output, **attributes)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: Weights,
    shape: Sequence[int | str],
    outputs: dict[str, Sequence[int | str] | None],
    *,
    dtype: int = FLOAT,
    output_dtype: int = FLOAT,
    more_inputs: Sequence[str] = (),
    domains: Sequence[str] = (),
    **saving: object,
) -> Path:
    """Write a graph whose input is called "images"."""
    inputs = [helper.make_tensor_value_info("images", dtype, shape)]
    inputs += [helper.make_tensor_value_info(name, FLOAT, [1]) for name in more_inputs]
    graph = helper.make_graph(
        nodes,
        "network",
        inputs,
        [helper.make_tensor_value_info(name, output_dtype, one) for name, one in outputs.items()],
        weights.tensors,
    )
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(name, 1) for name in domains)]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=9, producer_name="tests", producer_version="1"
    )
    onnx.save(model, path, **saving)
    return path


def conv_net(path: Path, shape: Sequence[int | str] = ("batch", 3, 32, 32), **saving) -> Path:
    """Convolutions, a residual, and a classifier of 5 classes; NCHW, as PyTorch exports them."""
    weights = Weights()
    weights.normal("w1", 8, 3, 3, 3)
    weights.normal("b1", 8)
    weights.normal("w2", 8, 8, 3, 3)
    weights.normal("w3", 8, 5)
    nodes = [
        node("Conv", "images w1 b1", "stem", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", "stem", "stem_relu"),
        node("Conv", "stem_relu w2", "branch", pads=[1, 1, 1, 1]),
        node("Add", "stem_relu branch", "block"),
        node("GlobalAveragePool", "block", "pool"),
        node("Flatten", "pool", "flat"),
        node("MatMul", "flat w3", "logits"),
    ]
    return save(path, nodes, weights, shape, {"logits": (shape[0], 5)}, **saving)


def nhwc_net(path: Path, shape: Sequence[int | str] = (1, 32, 32, 3)) -> Path:
    """Channels last, as TensorFlow's networks are exported; ends in a map, transposed back."""
    weights = Weights(1)
    weights.normal("w1", 8, 3, 3, 3)
    nodes = [
        node("Transpose", "images", "nchw", perm=[0, 3, 1, 2]),
        node("Conv", "nchw w1", "stem", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", "stem", "relu"),
        node("Transpose", "relu", "map", perm=[0, 2, 3, 1]),
    ]
    return save(path, nodes, weights, shape, {"map": (shape[0], 16, 16, 8)})


HEADS = {"query": (0, 2, 1, 3), "key": (0, 2, 3, 1), "value": (0, 2, 1, 3)}


def vit(path: Path, prefix: int = 1, *, open_batch: bool = False) -> Path:
    """Patches of 8 x 8 after `prefix` tokens, and one block of a transformer with two heads.

    With an open batch axis, shapes are computed from the input's, as PyTorch exports them.
    """
    weights, width, patches = Weights(2), 12, 16
    count = prefix + patches
    weights.normal("patch", width, 3, 8, 8)
    weights.normal("class", 1, prefix, width)
    weights.normal("position", 1, count, width)
    for name in ("query", "key", "value", "project"):
        weights.normal(name, width, width)
    for name in ("scale1", "shift1", "scale2", "shift2"):
        weights.normal(name, width)
    weights.normal("up", width, 2 * width)
    weights.normal("down", 2 * width, width)
    weights.given("rows_shape", (1, width, patches))
    weights.given("heads_shape", (1, count, 2, width // 2))
    weights.given("merged_shape", (1, count, width))
    batch, first = [], "class"
    if open_batch:
        weights.tensors = [one for one in weights.tensors if not one.name.endswith("_shape")]
        weights.given("zero", (0,))
        rests = {"rows": (width, -1), "heads": (-1, 2, width // 2), "merged": (-1, width)}
        rests["first"] = (-1, -1)
        batch += [node("Shape", "images", "whole"), node("Gather", "whole zero", "size")]
        for name, rest in rests.items():
            weights.given(f"{name}_rest", rest)
            batch.append(node("Concat", f"size {name}_rest", f"{name}_shape", axis=0))
        batch += [
            node("Equal", "first_shape minus", "any"),
            node("Where", "any ones first_shape", "wanted"),
            node("Expand", "class wanted", "classes"),
        ]
        weights.given("minus", (-1,))
        weights.given("ones", (1, 1, 1))
        first = "classes"
    nodes = [
        *batch,
        node("Conv", "images patch", "patches", strides=[8, 8]),
        node("Reshape", "patches rows_shape", "rows"),
        node("Transpose", "rows", "columns", perm=[0, 2, 1]),
        *([node("Concat", f"{first} columns", "sequence", axis=1)] if prefix else []),
        node("Add", f"{'sequence' if prefix else 'columns'} position", "embedded"),
        node("LayerNormalization", "embedded scale1 shift1", "norm1", axis=-1),
        *(
            made
            for name, perm in HEADS.items()
            for made in (
                node("MatMul", f"norm1 {name}", f"{name}_all"),
                node("Reshape", f"{name}_all heads_shape", f"{name}_split"),
                node("Transpose", f"{name}_split", f"{name}_heads", perm=perm),
            )
        ),
        node("MatMul", "query_heads key_heads", "scores"),
        node("Softmax", "scores", "attention", axis=-1),
        node("MatMul", "attention value_heads", "mixed"),
        node("Transpose", "mixed", "mixed_back", perm=[0, 2, 1, 3]),
        node("Reshape", "mixed_back merged_shape", "merged"),
        node("MatMul", "merged project", "projected"),
        node("Add", "embedded projected", "attended"),
        node("LayerNormalization", "attended scale2 shift2", "norm2", axis=-1),
        node("MatMul", "norm2 up", "hidden"),
        node("Relu", "hidden", "activated"),
        node("MatMul", "activated down", "dense"),
        node("Add", "attended dense", "tokens"),
    ]
    size = "batch" if open_batch else 1
    return save(path, nodes, weights, (size, 3, 32, 32), {"tokens": (size, count, width)})


def channels_last_blocks(path: Path) -> Path:
    """A map that is computed on with its channels last, as in Swin and ConvNeXt."""
    weights = Weights(3)
    weights.normal("patch", 6, 3, 2, 2)
    weights.normal("scale", 6)
    weights.normal("up", 6, 10)
    weights.normal("narrow", 10, 6)
    weights.normal("depthwise", 6, 1, 3, 3)
    weights.given("windows_shape", (1, 2, 8, 16, 6))
    weights.given("map_shape", (1, 16, 16, 6))
    nodes = [
        node("Conv", "images patch", "patches", strides=[2, 2]),
        node("Transpose", "patches", "last", perm=[0, 2, 3, 1]),
        node("Reshape", "last windows_shape", "windows"),
        node("Relu", "windows", "active"),
        node("Reshape", "active map_shape", "rolled"),
        node("Transpose", "rolled", "first", perm=[0, 3, 1, 2]),
        node("Conv", "first depthwise", "down", group=6, pads=[1, 1, 1, 1]),
        node("Transpose", "down", "again", perm=[0, 2, 3, 1]),
        node("MatMul", "again up", "mlp"),
        node("Relu", "mlp", "hidden"),
        node("MatMul", "hidden narrow", "dense"),
        node("Mul", "dense scale", "scaled"),
        node("Add", "rolled scaled", "block"),
        node("Transpose", "block", "back", perm=[0, 3, 1, 2]),
    ]
    return save(path, nodes, weights, (1, 3, 32, 32), {"back": (1, 6, 16, 16)})


def _convolved(*nodes: onnx.NodeProto) -> tuple[list[onnx.NodeProto], Weights]:
    weights = Weights(4)
    weights.normal("w1", 8, 3, 3, 3)
    stem = node("Conv", "images w1", "stem", strides=[2, 2], pads=[1, 1, 1, 1])
    return [stem, *nodes], weights


def uint8_net(path: Path) -> Path:
    """Takes uint8 and scales it itself."""
    weights = Weights(5)
    weights.normal("w1", 8, 3, 3, 3)
    nodes = [
        node("Cast", "images", "pixels", to=FLOAT),
        node("Conv", "pixels w1", "stem"),
        node("GlobalAveragePool", "stem", "pool"),
    ]
    shape = ("n", 3, 32, 32)
    return save(path, nodes, weights, shape, {"pool": None}, dtype=TensorProto.UINT8)


def classes_net(path: Path) -> Path:
    """Gives the number of a class."""
    nodes, weights = _convolved(
        node("GlobalMaxPool", "stem", "pool"),
        node("Flatten", "pool", "flat"),
        node("ArgMax", "flat", "class", axis=1, keepdims=0),
    )
    output = {"class": ("n",)}
    return save(path, nodes, weights, ("n", 3, 32, 32), output, output_dtype=TensorProto.INT64)


def rank_five_net(path: Path) -> Path:
    """Gives five axes."""
    nodes, weights = _convolved(node("Reshape", "stem shape", "groups"))
    weights.given("shape", (1, 2, 4, 16, 16))
    return save(path, nodes, weights, (1, 3, 32, 32), {"groups": (1, 2, 4, 16, 16)})


def custom_net(path: Path) -> Path:
    """Has an operator that only its maker knows."""
    nodes, weights = _convolved(node("Mystery", "stem", "output", domain="my.ops"))
    shape = (1, 3, 32, 32)
    return save(path, nodes, weights, shape, {"output": None}, domains=["my.ops"])


def fixed_batch_net(path: Path) -> Path:
    """Takes four images at a time, and its shapes say so."""
    nodes, weights = _convolved(
        node("Reshape", "stem shape", "rows"), node("MatMul", "rows w2", "output")
    )
    weights.given("shape", (4, 8 * 16 * 16))
    weights.normal("w2", 8 * 16 * 16, 5)
    return save(path, nodes, weights, (4, 3, 32, 32), {"output": (4, 5)})


def tied_batch_net(path: Path) -> Path:
    """Takes four images at a time, each of which it adds something else to."""
    nodes, weights = _convolved(
        node("GlobalAveragePool", "stem", "pool"), node("Add", "pool offsets", "output")
    )
    weights.normal("offsets", 4, 1, 1, 1)
    return save(path, nodes, weights, (4, 3, 32, 32), {"output": (4, 8, 1, 1)})


def dynamic_output_net(path: Path) -> Path:
    """Gives as many rows as there are pixels above 0."""
    nodes, weights = _convolved(
        node("Reshape", "stem shape", "rows"),
        node("NonZero", "rows", "where"),
        node("Gather", "rows where", "picked", axis=1),
        node("ReduceMean", "picked", "output", axes=[1]),
    )
    weights.given("shape", (1, 16 * 16, 8))
    return save(path, nodes, weights, (1, 3, 32, 32), {"output": None})


def half_net(path: Path) -> Path:
    """A network in float16, input and weights alike."""
    conv_net(path)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, path)
    return path
