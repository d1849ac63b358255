"""One shard of the feature store: an immutable HDF5 file of vectors, each with its checksum.

Its seal covers all but the vectors, so that thousands are opened at once without reading these.
Shards of format 1, which have no seal, are read as ever: nothing is computed twice.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.common.files import atomic_write
from headstart.common.hdf5 import open_hdf5
from headstart.common.seal import (
    USER_BLOCK,
    BrokenSeal,
    check_seal,
    is_unsealed_h5,
    open_h5,
    refuse_locked,
    seal_h5,
)
from headstart.common.vocabulary import StoreDtype
from headstart.features.identity import FeatureIdentity

KIND = "shard 2"
# What the system says whatever is in a file.
_NOT_OPENED = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE)
SUFFIX = ".h5"
KEY_BYTES = 32
# Enough that a damaged vector passes once in 2**64 times.
_CHECKSUM_BYTES = 8
_BLOCK_BYTES = 4 * 2**20
_FEATURE_TYPES: dict[StoreDtype, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
}


class DamagedShard(Exception):
    """A shard is truncated, or a checksum does not fit; the message says which."""


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """What is known of a shard without reading its vectors.

    Attributes:
        path: The file.
        identity: The extractor that made the vectors.
        versions: Library versions that computed them, by distribution name.
        feature_shape: Of one vector.
        keys: (n_rows, 32) uint8.
        checksums: (n_rows, 8) uint8, the first bytes of each vector's sha256.
        offset: Where the vectors begin in the file, in bytes.
        parts: Names of the files that were merged into it, and of those merged into them.
    """

    path: Path
    identity: FeatureIdentity
    versions: dict[str, str]
    feature_shape: tuple[int, ...]
    keys: NDArray[np.uint8]
    checksums: NDArray[np.uint8]
    offset: int
    parts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def row_bytes(self) -> int:
        """Size of one vector."""
        return int(np.prod(self.feature_shape)) * stored_dtype(self.identity).itemsize

    def read(self, rows: NDArray[np.integer[Any]]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Read vectors, each checked against its checksum.

        Args:
            rows: (n,) ascending row numbers.

        Yields:
            Which of `rows`, and their vectors, (m, *feature_shape); a few megabytes at a time.

        Raises:
            DamagedShard: the file ends early or a checksum differs.
            FileNotFoundError: the file is gone; another process may have pruned it.
            InputError: it is open for writing in another program.
        """
        row_bytes = self.row_bytes
        at_most = max(1, _BLOCK_BYTES // row_bytes)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            refuse_locked(self.path, descriptor)
            for start in range(0, len(rows), at_most):
                wanted = rows[start : start + at_most]
                buffer = np.empty((len(wanted), row_bytes), np.uint8)
                self._fill(buffer.data, wanted, descriptor)
                self._check(buffer, wanted)
                stored = buffer.view(stored_dtype(self.identity))
                vectors = stored.reshape(-1, *self.feature_shape).astype(np.float32, copy=False)
                yield slice(start, start + len(wanted)), vectors
        finally:
            os.close(descriptor)

    def _fill(self, buffer: memoryview, rows: NDArray[np.integer[Any]], descriptor: int) -> None:
        # Neighboring rows come in one call.
        starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
        stops = np.append(starts[1:], len(rows))
        offsets = self.offset + rows[starts] * self.row_bytes
        for start, stop, offset in zip(
            starts.tolist(), stops.tolist(), offsets.tolist(), strict=True
        ):
            part = buffer[start:stop]
            if os.preadv(descriptor, [part], offset) != part.nbytes:
                raise DamagedShard("it ends early")

    def _check(self, buffer: NDArray[np.uint8], rows: NDArray[np.integer[Any]]) -> None:
        found = _checksums(buffer)
        wrong = np.flatnonzero((found != self.checksums[rows]).any(axis=1))
        if len(wrong):
            raise DamagedShard(f"the checksum of row {rows[wrong[0]]} does not fit")


def stored_dtype(identity: FeatureIdentity) -> np.dtype[Any]:
    """Return the type that an extractor's vectors are stored in."""
    return _FEATURE_TYPES[identity.store_dtype]


def write_shard(
    folder: Path,
    identity: FeatureIdentity,
    versions: dict[str, str],
    keys: NDArray[np.uint8],
    vectors: NDArray[np.floating[Any]],
) -> Path:
    """Write a shard; it appears under its name whole or not at all.

    Args:
        folder: Where; made when missing.
        identity: The extractor that made the vectors.
        versions: Library versions that computed them.
        keys: (n_rows, 32).
        vectors: (n_rows, *feature_shape), which the stored type can hold.

    Returns:
        The file written.
    """
    vectors = np.ascontiguousarray(vectors, dtype=stored_dtype(identity))
    checksums = _checksums(vectors.reshape(len(vectors), -1).view(np.uint8))
    return stream_shard(
        folder, identity, versions, keys, checksums, vectors.shape[1:], iter([vectors])
    )


def stream_shard(
    folder: Path,
    identity: FeatureIdentity,
    versions: dict[str, str],
    keys: NDArray[np.uint8],
    checksums: NDArray[np.uint8],
    feature_shape: tuple[int, ...],
    blocks: Iterable[NDArray[np.floating[Any]]],
    parts: Sequence[str] = (),
) -> Path:
    """Write a shard of vectors whose checksums are known, as `write_shard`, without holding them.

    The name is made of the content, so that two processes that computed the same write one file.

    Args:
        folder: Where; made when missing.
        identity: The extractor that made the vectors.
        versions: Library versions that computed them.
        keys: (n_rows, 32).
        checksums: (n_rows, 8), of the vectors as they are stored.
        feature_shape: Of one vector.
        blocks: All vectors in order, (m, *feature_shape) each.
        parts: Names of the files that are merged into it.

    Returns:
        The file written.
    """
    digest = _index_digest(keys, checksums)
    path = folder / f"{digest[:32]}{SUFFIX}"
    with atomic_write(path) as temporary:
        with open_hdf5(temporary, userblock_size=USER_BLOCK) as file:
            file.attrs["identity"] = json.dumps(identity.as_dict())
            file.attrs["versions"] = json.dumps(versions)
            # As a dataset: an attribute may not exceed 64 kB.
            if parts:
                file.create_dataset("parts", data=np.array(parts, "S"), track_times=False)
            file.create_dataset("key", data=keys, track_times=False)
            file.create_dataset("checksum", data=checksums, track_times=False)
            dtype, shape = stored_dtype(identity), (len(keys), *feature_shape)
            features = file.create_dataset("features", shape, dtype, track_times=False)
            start = 0
            for block in blocks:
                features[start : start + len(block)] = block
                start += len(block)
            # Known once something has been written.
            payload = int(features.id.get_offset()), features.nbytes
        seal_h5(temporary, KIND, payload, rows_checked=True)
    return path


def open_shard(path: Path) -> Shard:
    """Read a shard's keys and checksums.

    Raises:
        DamagedShard: the file is no shard, is truncated, or its index was changed.
        FileNotFoundError: the file is gone; another process may have pruned it.
        OSError: the system will not open it, whatever is in it.
        InputError: it is open for writing in another program.
    """
    unsealed = is_unsealed_h5(path)
    try:
        if not unsealed:
            check_seal(path, KIND)
        shard = _read(path)
        if unsealed:
            _check_unsealed(shard)
    except BrokenSeal as broken:
        raise DamagedShard(str(broken)) from None
    # Without a seal, anything may be found inside.
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in _NOT_OPENED:
            raise
        raise DamagedShard(f"it cannot be read ({error})") from None
    if shard.identity.fingerprint != path.parent.name:
        raise DamagedShard("it belongs to another extractor")
    return shard


def _read(path: Path) -> Shard:
    with open_h5(path) as file:
        attributes = file.attrs
        return Shard(
            path,
            FeatureIdentity.from_dict(json.loads(attributes["identity"])),
            json.loads(attributes["versions"]),
            file["features"].shape[1:],
            file["key"][:],
            file["checksum"][:],
            int(file["features"].id.get_offset()),
            tuple(name.decode() for name in file["parts"][:]) if "parts" in file else (),
        )


def _check_unsealed(shard: Shard) -> None:
    with open_h5(shard.path) as file:
        version, expected = (file.attrs[name] for name in ("schema_version", "index_digest"))
        n_rows = len(file["features"])
    if version != 1:
        raise DamagedShard(f"its schema version is {version}")
    if _index_digest(shard.keys, shard.checksums) != expected or n_rows != len(shard):
        raise DamagedShard("the checksum of its index does not fit")


def _checksums(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the checksum of each row of bytes, (n_rows, 8)."""
    data = b"".join(hashlib.sha256(row).digest()[:_CHECKSUM_BYTES] for row in rows)
    return np.frombuffer(data, np.uint8).reshape(-1, _CHECKSUM_BYTES)


def _index_digest(keys: NDArray[np.uint8], checksums: NDArray[np.uint8]) -> str:
    return hashlib.sha256(keys.tobytes() + checksums.tobytes()).hexdigest()
