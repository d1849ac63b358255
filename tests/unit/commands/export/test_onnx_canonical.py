"""One network gives one ONNX file, whatever a converter calls its parts and in what order."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from headstart.commands.export.onnx_canonical import canonical

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)
STEPS = 4


def network(seed: int, *, step: float = 1.0) -> onnx.ModelProto:
    """Build (x + step) @ kernel + sum of equal branches, with parts drawn by the seed."""
    rng = np.random.default_rng(seed)
    names = iter(f"n{number}" for number in rng.permutation(1000))
    constants, nodes = [], []

    def constant(value: np.ndarray) -> str:
        name = next(names)
        constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def node(kind: str, *inputs: str, output: str | None = None, **attributes: object) -> str:
        name = output or next(names)
        made = helper.make_node(kind, inputs, [name], name=next(names), **attributes)
        nodes.append(made)
        return name

    shared = constant(step)
    x = node("Add", "x", shared if rng.integers(2) else constant(step))
    x = start = node("MatMul", x, constant(KERNEL))
    # The same work, done once or for each.
    twin = node("Relu", start)
    for _ in range(STEPS):
        branch = node("Relu", start) if rng.integers(2) else twin
        x = node("Sub", node("Add", x, branch), constant(step) if rng.integers(2) else shared)
    node("Softmax", x, output="y", axis=1)
    rng.shuffle(constants)
    graph = helper.make_graph(
        nodes,
        next(names),
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        constants,
        doc_string=next(names),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def content(model: onnx.ModelProto) -> bytes:
    return canonical(model).SerializeToString(deterministic=True)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2**32 - 1))
def test_names_order_and_copies_leave_no_trace(seed: int) -> None:
    model = network(seed)
    assert content(model) == content(network(0))
    assert content(canonical(model)) == content(model)


def test_another_constant_is_another_file() -> None:
    assert content(network(0, step=2.0)) != content(network(0))


@pytest.mark.parametrize("seed", range(3))
def test_it_computes_the_same(seed: int) -> None:
    before, after = network(seed), canonical(network(seed))
    onnx.checker.check_model(after, full_check=True)
    x = np.random.default_rng(seed).normal(size=(5, 2)).astype(np.float32)
    said = [
        onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        ).run(["y"], {"x": x})[0]
        for model in (before, after)
    ]
    np.testing.assert_array_equal(*said)


def test_depth_is_no_limit() -> None:
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(3000)]
    graph = helper.make_graph(
        nodes,
        "deep",
        [helper.make_tensor_value_info("t0", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("t3000", TensorProto.FLOAT, [1])],
    )
    assert len(canonical(helper.make_model(graph)).graph.node) == 3000
