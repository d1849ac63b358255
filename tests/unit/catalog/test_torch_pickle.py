import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from headstart.catalog.torch_pickle import read_state_dict
from headstart.common.errors import InputError

HEAD = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
SYSTEM = pickle.dumps({"little_endian": True}, 2)


def opcodes(value: object) -> bytes:
    """Return the opcodes that push a plain value, without the frame of a whole pickle."""
    return pickle.dumps(value, 2)[2:-1]


def name(module: str, attribute: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def tensor(
    key: str,
    size: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *,
    offset: int = 0,
    storage: str = "FloatStorage",
) -> bytes:
    parts = opcodes(key) + opcodes("cpu") + opcodes(size) + pickle.NONE
    handle = pickle.MARK + opcodes("storage") + name("torch", storage) + parts + pickle.TUPLE
    arguments = opcodes(offset) + opcodes(shape) + opcodes(strides) + pickle.NEWFALSE
    return (
        name("torch._utils", "_rebuild_tensor_v2")
        + (pickle.MARK + handle + pickle.BINPERSID + arguments + pickle.TUPLE)
        + pickle.REDUCE
    )


def state_dict(**tensors: bytes) -> bytes:
    items = b"".join(opcodes(key) + value for key, value in tensors.items())
    ordered = name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    return pickle.PROTO + b"\x02" + ordered + pickle.MARK + items + pickle.SETITEMS + pickle.STOP


def write(path: Path, state: bytes, storages: dict[str, np.ndarray]) -> Path:
    data = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
    path.write_bytes(HEAD + SYSTEM + state + pickle.dumps(list(storages), 2) + data)
    return path


VALUES = np.arange(6, dtype="<f4")


def test_tensors_are_read_with_their_shapes_strides_and_types(tmp_path: Path) -> None:
    state = state_dict(
        plain=tensor("1", 6, (2, 3), (3, 1)),
        transposed=tensor("1", 6, (3, 2), (1, 3)),
        part=tensor("1", 6, (2,), (1,), offset=4),
        count=tensor("2", 1, (), (), storage="LongStorage"),
    )
    storages = {"1": VALUES, "2": np.array([7], dtype="<i8")}
    found = read_state_dict(write(tmp_path / "weights.pth", state, storages))
    assert list(found) == ["plain", "transposed", "part", "count"]
    np.testing.assert_array_equal(found["plain"], VALUES.reshape(2, 3))
    np.testing.assert_array_equal(found["transposed"], VALUES.reshape(2, 3).T)
    np.testing.assert_array_equal(found["part"], [4, 5])
    assert found["count"].dtype == np.int64
    assert found["count"] == 7


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((2, 4), (4, 1), 0), ((2,), (1,), 5), ((2,), (-1,), 1), ((2,), (100,), 0)],
)
def test_a_tensor_outside_its_storage_is_refused(
    tmp_path: Path, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> None:
    state = state_dict(bad=tensor("1", 6, shape, strides, offset=offset))
    path = write(tmp_path / "weights.pth", state, {"1": VALUES})
    with pytest.raises(InputError, match="reaches outside its storage"):
        read_state_dict(path)


def test_code_in_the_file_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    class Attack:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(trap),)

    path = tmp_path / "weights.pth"
    path.write_bytes(HEAD + SYSTEM + pickle.dumps(Attack(), 2))
    with pytest.raises(InputError, match=r"(posix|nt)\.mkdir is not a part of weights"):
        read_state_dict(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 a zip", pickle.dumps("another pickle"), HEAD, HEAD + pickle.dumps([1])],
    ids=["empty", "zip", "other", "short", "no-system"],
)
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.pth: expected PyTorch weights in the legacy"):
        read_state_dict(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    state = state_dict(plain=tensor("1", 6, (2, 3), (3, 1)))
    path = write(tmp_path / "weights.pth", state, {"1": VALUES})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="expected PyTorch weights in the legacy format"):
        read_state_dict(path)


def test_a_big_endian_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(HEAD + pickle.dumps({"little_endian": False}, 2))
    with pytest.raises(InputError, match="written on a big-endian machine"):
        read_state_dict(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_state_dict(tmp_path / "weights.pth")
