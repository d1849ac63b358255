"""The encoding of ONNX files, read field by field.

So no file has to be in memory, nor the package `onnx` installed, to know what a network is.
Source: protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator

Value = int | memoryview
"""Of a field: a number, or the bytes of a text, an array or another message."""


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield number and value of each field of a message, in their order.

    Raises:
        ValueError: the bytes are no message.
    """
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if not number:
            raise ValueError("a field has the number 0")
        if kind == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == 2:
            size, position = _varint(message, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"field {number} has the unknown type {kind}")
        if position + size > end:
            raise ValueError(f"field {number} ends {position + size - end} bytes behind the file's")
        yield number, message[position : position + size]
        position += size


def text(value: Value) -> str:
    """Return a field's text.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, int):
        raise ValueError("expected a text, received a number")
    return str(value, "utf-8")


def message(value: Value) -> memoryview:
    """Return a field's message.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, int):
        raise ValueError("expected a message, received a number")
    return value


def numbers(value: Value) -> list[int]:
    """Return one number of a repeated field, or all of them where they are packed.

    Raises:
        ValueError: the bytes are no numbers.
    """
    if isinstance(value, int):
        return [value]
    found, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        found.append(number)
    return found


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    number = shift = 0
    # At most 10 bytes of 7 bits hold 64.
    for byte in data[position : position + 10]:
        number |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return number, position
        shift += 7
    raise ValueError("a number does not end")
