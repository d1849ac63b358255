"""An ONNX graph in one order and under names that follow from its structure alone.

tf2onnx keeps nodes in sets, and numbers what it adds over the life of a process: which of several
equal constants is kept, in what order, and under what name, differs from run to run.
"""

import hashlib

import onnx


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same computation, the same bytes for each conversion of one network.

    Nodes stand in the order in which the output needs them; equal constants and equal nodes are
    one. Inputs and outputs of the graph keep their names.

    Args:
        model: Without control flow.
    """
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output if name}
    constants = {constant.name: constant for constant in graph.initializer}
    kept = {value.name for value in graph.output}
    names = {value.name: value.name for value in graph.input} | {"": ""}
    seen: dict[object, list[str]] = {}
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []

    def take_constant(name: str) -> None:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(constants[name])
        tensor.ClearField("name")
        tensor.ClearField("doc_string")
        key = hashlib.sha256(tensor.SerializeToString(deterministic=True)).digest()
        if key not in seen:
            tensor.name = f"constant_{len(initializers)}"
            seen[key] = [tensor.name]
            initializers.append(tensor)
        (names[name],) = seen[key]

    def take_node(node: onnx.NodeProto) -> None:
        inputs = [names[name] for name in node.input]
        attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
        words = [attribute.SerializeToString(deterministic=True) for attribute in attributes]
        key = (node.op_type, node.domain, tuple(inputs), tuple(words))
        if key not in seen:
            name = f"{node.op_type}_{len(nodes)}"
            outputs = [
                output if output in kept or not output else f"{name}:{number}"
                for number, output in enumerate(node.output)
            ]
            seen[key] = outputs
            nodes.append(
                onnx.NodeProto(
                    op_type=node.op_type,
                    domain=node.domain,
                    name=name,
                    input=inputs,
                    output=outputs,
                    attribute=attributes,
                )
            )
        names.update(zip(node.output, seen[key], strict=True))

    # Depth first, by hand: deep networks would exceed Python's stack.
    pending = [value.name for value in reversed(graph.output)]
    while pending:
        name = pending.pop()
        if name in names:
            continue
        if name in constants:
            take_constant(name)
            continue
        missing = [needed for needed in made_by[name].input if needed not in names]
        if missing:
            pending += [name, *reversed(missing)]
        else:
            take_node(made_by[name])

    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.ClearField("doc_string")
    graph = result.graph
    for field in ("node", "initializer", "value_info", "doc_string", "metadata_props"):
        graph.ClearField(field)
    graph.name = "model"
    graph.node.extend(nodes)
    graph.initializer.extend(initializers)
    return result
