"""What an ONNX file says of its network: inputs, outputs, tensors, files of weights beside it.

Source of all field numbers: onnx/onnx.proto.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PurePosixPath

from headstart.catalog.onnx.wire import Value, fields, message, numbers, text
from headstart.common.errors import InputError
from headstart.common.files import digest_of, sha256_of

Shape = tuple[int | None, ...]
"""None stands for an axis that is not fixed."""


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """An input or output of the graph.

    Attributes:
        name: Of the tensor.
        shape: None where the file does not even say how many axes there are.
    """

    name: str
    shape: Shape | None


@dataclass(slots=True)
class OnnxFile:
    """A network in a file; its weights are not in memory.

    Attributes:
        path: The file.
        producer: The program that made it, such as "pytorch 2.4.0".
        inputs: Of the graph, without the weights.
        outputs: Of the graph, in its order.
        tensors: Names of what the operators give, in the file's order.
        parameters: Number of weights.
        data: Names of the files beside it that hold weights.
    """

    path: Path
    producer: str = ""
    inputs: list[TensorFacts] = field(default_factory=list)
    outputs: list[TensorFacts] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)
    parameters: int = 0
    data: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """The file itself and those beside it."""
        return [self.path, *(self.path.parent / name for name in self.data)]

    @property
    def sha256(self) -> str:
        """Digest of the network: of the file, or of all files where there are several."""
        own, *others = (sha256_of(path) for path in self.files)
        return digest_of({"model": own, "data": others}) if others else own


def read(path: Path) -> OnnxFile:
    """Read what a file says of its network.

    Raises:
        InputError: there is no such file, it is no ONNX file or a damaged one, or a file of weights
            that belongs to it is missing.
    """
    if not path.is_file():
        raise InputError(f"weights: {path}: no such file; expected a network in a file of ONNX")
    file = OnnxFile(path)
    try:
        with path.open("rb") as opened:
            content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        # It is unmapped when the last part of it is let go of.
        _read_model(memoryview(content), file)
    except OSError as error:
        raise InputError(f"weights: {path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(
            f"weights: {path}: expected an ONNX file, received another one or a damaged one "
            f"({error}); export or copy it again"
        ) from None
    if not file.outputs:
        raise InputError(
            f"weights: {path}: expected an ONNX file, received one without a network's output; "
            "export it again"
        )
    for name in file.data:
        _check_data(path, name)
    return file


def _check_data(path: Path, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name:
        raise InputError(
            f"weights: {path}: its weights are said to lie in {name!r}; expected a file in the "
            "folder of the model or below it; export it again"
        )
    if not (path.parent / name).is_file():
        raise InputError(
            f"weights: {path}: its weights lie in another file, {path.parent / name}, which is "
            "missing; put it there: the two belong together"
        )


def _read_model(content: memoryview, file: OnnxFile) -> None:
    version = ""
    found: dict[str, None] = {}
    for number, value in fields(content):
        if number == 2:
            file.producer = text(value)
        elif number == 3:
            version = text(value)
        elif number == 7:
            _read_graph(message(value), file, found)
        elif number == 25:
            for node in _messages(message(value), 7):
                found |= dict.fromkeys(_data_of_node(node))
    file.producer = f"{file.producer} {version}".strip()
    file.data = sorted(found)


def _read_graph(graph: memoryview, file: OnnxFile, found: dict[str, None]) -> None:
    inputs, weights = [], set()
    for number, value in fields(graph):
        if number == 1:
            node = message(value)
            # Inputs, outputs, name and operator: all must be text, also those that nobody asks for.
            texts = [(key, text(name)) for key, name in fields(node) if key in (1, 2, 3, 4, 7)]
            file.tensors += [name for key, name in texts if key == 2 and name]
            found |= dict.fromkeys(_data_of_node(node))
        elif number in (5, 15):
            tensor = next(_messages(message(value), 1)) if number == 15 else message(value)
            weights.add(_name_of(tensor, 8))
            file.parameters += _size_of(tensor)
            found |= dict.fromkeys(_data_of_tensor(tensor))
        elif number == 11:
            inputs.append(_tensor_facts(message(value)))
        elif number == 12:
            file.outputs.append(_tensor_facts(message(value)))
    # Files of before 2019 list the weights among the inputs.
    file.inputs = [one for one in inputs if one.name not in weights]


def _data_of_graph(graph: memoryview) -> Iterator[str]:
    for number, value in fields(graph):
        if number == 1:
            yield from _data_of_node(message(value))
        elif number == 5:
            yield from _data_of_tensor(message(value))


def _data_of_node(node: memoryview) -> Iterator[str]:
    for attribute in _messages(node, 5):
        for number, value in fields(attribute):
            if number in (5, 10):
                yield from _data_of_tensor(message(value))
            elif number in (6, 11):
                yield from _data_of_graph(message(value))


def _data_of_tensor(tensor: memoryview) -> Iterator[str]:
    for entry in _messages(tensor, 13):
        pair = {number: text(value) for number, value in fields(entry)}
        if pair.get(1) == "location":
            yield pair.get(2, "")


def _size_of(tensor: memoryview) -> int:
    kind, shape = 0, []
    for number, value in fields(tensor):
        if number == 1:
            shape += numbers(value)
        elif number == 2:
            kind = numbers(value)[0]
    # What is counted in int32 or int64 is a shape or an index.
    return 0 if kind in (6, 7) else prod(shape)


def _name_of(entry: memoryview, number: int) -> str:
    return next((text(value) for key, value in fields(entry) if key == number), "")


def _tensor_facts(info: memoryview) -> TensorFacts:
    shape: Shape | None = None
    for kind in _messages(info, 2):
        for tensor in _messages(kind, 1):
            for dimensions in _messages(tensor, 2):
                shape = tuple(map(_dimension, _messages(dimensions, 1)))
    return TensorFacts(_name_of(info, 1), shape)


def _dimension(dimension: memoryview) -> int | None:
    fixed: list[Value] = [value for number, value in fields(dimension) if number == 1]
    size = numbers(fixed[0])[0] if fixed else 0
    # Some programs write an open axis as 0 or as -1, which reads as a huge number.
    return size if 0 < size < 2**31 else None


def _messages(outer: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, value in fields(outer):
        if number == wanted:
            yield message(value)
