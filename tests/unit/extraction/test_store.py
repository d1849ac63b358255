import dataclasses
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from headstart.common.errors import InputError
from headstart.extraction import store as feature_store
from headstart.extraction.shard import DamagedShard, open_shard, write_shard
from headstart.extraction.store import Collection, FeatureStore, make_keys, unique_keys
from tests.feature_files import make_identity

IDENTITY = make_identity(layer="flatten", image_size=(32, 24))
VERSIONS = {"numpy": "2.0"}
SHAPE = (6,)


def keys_for(first: int, count: int, view: str = "0") -> np.ndarray:
    digests = [hashlib.sha256(b"%d" % n).hexdigest() for n in range(first, first + count)]
    return make_keys(digests, [view] * count)


def vectors_for(first: int, count: int) -> np.ndarray:
    return np.stack(
        [
            np.random.default_rng(n).standard_normal(SHAPE).astype(np.float32)
            for n in range(first, first + count)
        ]
    )


def fill(collection: Collection, first: int, count: int) -> None:
    with collection.writer(SHAPE, VERSIONS) as writer:
        writer.add(keys_for(first, count), vectors_for(first, count))
    collection.reload()


def read_all(collection: Collection, keys: np.ndarray) -> dict[int, np.ndarray]:
    return {
        int(position): vector
        for positions, vectors in collection.read(keys)
        for position, vector in zip(positions, vectors, strict=True)
    }


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


def test_where_the_store_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "mine"))
    assert FeatureStore().root == tmp_path / "mine"
    monkeypatch.delenv("HEADSTART_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert FeatureStore().root.name == "headstart"
    assert FeatureStore().root.is_relative_to(tmp_path)


def test_keys_tell_images_and_views_apart() -> None:
    keys = np.concatenate([keys_for(0, 50), keys_for(0, 50, "1-ab"), keys_for(0, 50, "2-ab")])
    assert keys.shape == (150, 32)
    assert len(np.unique(keys, axis=0)) == 150
    assert np.array_equal(keys_for(0, 50), keys[:50])


def test_first_of_each_key() -> None:
    keys = keys_for(0, 4)[[2, 0, 2, 1, 0]]
    assert unique_keys(keys).tolist() == [0, 1, 3]
    assert unique_keys(keys[:0]).tolist() == []


def test_round_trip_over_several_shards(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store, "SHARD_ROWS", 8)
    collection = store.collection(IDENTITY)
    assert collection.feature_shape is None
    fill(collection, 0, 50)
    assert sorted(len(shard) for shard in collection.shards.values()) == [2] + [8] * 6
    assert collection.feature_shape == SHAPE
    wanted = np.random.default_rng(0).permutation(80)
    keys = keys_for(0, 80)[wanted]
    assert np.array_equal(collection.contains(keys), wanted < 50)
    for fresh in (collection, store.collection(IDENTITY)):
        read = read_all(fresh, keys)
        assert sorted(read) == np.flatnonzero(wanted < 50).tolist()
        for position, vector in read.items():
            assert np.array_equal(vector, vectors_for(wanted[position], 1)[0])


def test_one_key_asked_for_twice_is_given_twice(store: FeatureStore) -> None:
    collection = store.collection(IDENTITY)
    fill(collection, 0, 4)
    read = read_all(collection, keys_for(0, 4)[[2, 0, 2]])
    assert sorted(read) == [0, 1, 2]
    assert np.array_equal(read[0], read[2])


def test_keys_with_the_same_beginning(store: FeatureStore) -> None:
    """Keys are ordered by eight bytes of 32; the others must count too."""
    keys = np.zeros((5, 32), np.uint8)
    keys[:, 31] = range(5)
    collection = store.collection(IDENTITY)
    with collection.writer(SHAPE, VERSIONS) as writer:
        writer.add(keys[:4], vectors_for(0, 4))
    collection.reload()
    assert collection.contains(keys).tolist() == [True] * 4 + [False]
    read = read_all(collection, keys[::-1])
    assert np.array_equal(read[1], vectors_for(3, 1)[0])


def test_extractors_do_not_share(store: FeatureStore) -> None:
    fill(store.collection(IDENTITY), 0, 4)
    for field, value in {
        "layer": "conv",
        "precision": "bfloat16",
        "engine": "tensorflow",
        "weights_sha256": "ef" * 32,
        "image_size": (24, 32),
        "numerics": 99,
    }.items():
        other = dataclasses.replace(IDENTITY, **{field: value})
        assert not store.collection(other).contains(keys_for(0, 4)).any(), field
    renamed = dataclasses.replace(IDENTITY, weights="the/same/file.h5")
    assert store.collection(renamed).contains(keys_for(0, 4)).all()


def test_a_shard_closes_by_rows_bytes_and_time(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = store.collection(IDENTITY)
    monkeypatch.setattr(feature_store, "SHARD_BYTES", 3 * 4 * SHAPE[0])
    with collection.writer(SHAPE, VERSIONS) as writer:
        writer.add(keys_for(0, 4), vectors_for(0, 4))
        collection.reload()
        assert [len(shard) for shard in collection.shards.values()] == [3]
        monkeypatch.setattr(feature_store, "SHARD_SECONDS", (0.0, 0.0))
        writer.add(keys_for(4, 1), vectors_for(4, 1))
        collection.reload()
        assert sorted(len(shard) for shard in collection.shards.values()) == [2, 3]


def test_vectors_larger_than_a_shard_should_be(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store, "SHARD_BYTES", 1)
    collection = store.collection(IDENTITY)
    fill(collection, 0, 3)
    assert sorted(read_all(collection, keys_for(0, 3))) == [0, 1, 2]


def test_an_interrupted_writer_keeps_what_it_was_given(store: FeatureStore) -> None:
    collection = store.collection(IDENTITY)

    def extract() -> None:
        with collection.writer(SHAPE, VERSIONS) as writer:
            writer.add(keys_for(0, 3), vectors_for(0, 3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract()
    collection.reload()
    assert collection.contains(keys_for(0, 3)).all()


def test_versions_of_all_shards_used(store: FeatureStore) -> None:
    collection = store.collection(IDENTITY)
    for first, version in ((0, "2.1"), (4, "2.0"), (8, "1.0")):
        with collection.writer(SHAPE, {"numpy": version, "h5py": "3"}) as writer:
            writer.add(keys_for(first, 4), vectors_for(first, 4))
    collection.reload()
    assert collection.versions(keys_for(0, 8)) == {"h5py": "3", "numpy": "2.0, 2.1"}
    assert collection.versions(keys_for(0, 4)) == {"h5py": "3", "numpy": "2.1"}


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(bytes(data))


def _offset_of(path: Path, dataset: str) -> int:
    with h5py.File(path, "r") as file:
        return int(file[dataset].id.get_offset())


def test_a_changed_vector_is_never_served(
    store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(store.collection(IDENTITY), 0, 4)
    fill(store.collection(IDENTITY), 4, 4)
    collection = store.collection(IDENTITY)
    path = next(
        s.path for s in collection.shards.values() if (s.keys == keys_for(0, 1)).all(1).any()
    )
    _flip(path, _offset_of(path, "features") + 2 * 4 * SHAPE[0] + 5)
    read = read_all(collection, keys_for(0, 8))
    assert set(read) >= {4, 5, 6, 7}
    assert not set(read) & {2, 3}
    assert collection.contains(keys_for(0, 8)).tolist() == [False] * 4 + [True] * 4
    message = capsys.readouterr().err
    assert f"{path}: a part of the feature store is damaged: the checksum of row 2" in message
    assert not path.exists()
    assert path.with_name(path.name + ".damaged").exists()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            lambda path: os.truncate(path, path.stat().st_size - 30),
            "expected [0-9,]+ bytes, received",
        ),
        (lambda path: os.truncate(path, 0), "not a file that Headstart wrote"),
        (lambda path: _flip(path, _offset_of(path, "key")), "damaged or changed .*sha256"),
        (lambda path: _flip(path, _offset_of(path, "checksum")), "damaged or changed .*sha256"),
        (lambda path: path.write_text("no HDF5"), "not a file that Headstart wrote"),
    ],
    ids=["truncated", "empty", "key", "checksum", "text"],
)
def test_a_damaged_shard_is_set_aside(
    store: FeatureStore, damage, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    collection = store.collection(IDENTITY)
    fill(collection, 0, 4)
    (path,) = [shard.path for shard in collection.shards.values()]
    damage(path)
    with pytest.raises(DamagedShard, match=reason):
        open_shard(path)
    fresh = store.collection(IDENTITY)
    assert not fresh.contains(keys_for(0, 4)).any()
    assert "is set aside; what it held is computed again" in capsys.readouterr().err
    fill(fresh, 0, 4)
    assert np.array_equal(read_all(fresh, keys_for(0, 1))[0], vectors_for(0, 1)[0])


def test_a_file_cut_short_after_it_was_opened(store: FeatureStore) -> None:
    collection = store.collection(IDENTITY)
    fill(collection, 0, 4)
    (path,) = [shard.path for shard in collection.shards.values()]
    os.truncate(path, _offset_of(path, "features") + 30)
    assert 3 not in read_all(collection, keys_for(0, 4))
    assert not collection.contains(keys_for(0, 4)).any()


def test_a_shard_of_another_extractor_or_format(store: FeatureStore) -> None:
    path = write_shard(
        store.features / "elsewhere", IDENTITY, {}, keys_for(0, 1), vectors_for(0, 1)
    )
    with pytest.raises(DamagedShard, match="belongs to another extractor"):
        open_shard(path)
    path.write_bytes(path.read_bytes().replace(b"shard 2", b"shard 3"))
    with pytest.raises(DamagedShard, match="format 'shard 2', received 'shard 3'"):
        open_shard(path)


def _write_unsealed(folder: Path, version: int = 1) -> Path:
    """A shard as releases before the seal wrote it."""
    folder.mkdir(parents=True)
    keys, vectors = keys_for(0, 4), vectors_for(0, 4)
    checksums = np.stack(
        [np.frombuffer(hashlib.sha256(row).digest()[:8], np.uint8) for row in vectors]
    )
    with h5py.File(folder / "old.h5", "w") as file:
        file.attrs["schema_version"] = version
        file.attrs["identity"] = json.dumps(IDENTITY.as_dict())
        file.attrs["versions"] = json.dumps(VERSIONS)
        file.attrs["index_digest"] = hashlib.sha256(
            keys.tobytes() + checksums.tobytes()
        ).hexdigest()
        for name, data in (("key", keys), ("checksum", checksums), ("features", vectors)):
            file.create_dataset(name, data=data, track_times=False)
    return folder / "old.h5"


def test_what_an_older_release_stored_is_not_computed_again(store: FeatureStore) -> None:
    path = _write_unsealed(store.features / IDENTITY.fingerprint)
    collection = store.collection(IDENTITY)
    fill(collection, 4, 4)
    read = read_all(collection, keys_for(0, 8))
    assert all(np.array_equal(read[n], vectors_for(n, 1)[0]) for n in range(8))
    _flip(path, _offset_of(path, "key"))
    with pytest.raises(DamagedShard, match="the checksum of its index"):
        open_shard(path)


def test_an_unsealed_shard_of_another_schema(store: FeatureStore) -> None:
    with pytest.raises(DamagedShard, match="its schema version is 99"):
        open_shard(_write_unsealed(store.features / IDENTITY.fingerprint, 99))


@pytest.mark.parametrize("sealed", [True, False])
def test_a_shard_that_another_program_writes_to_is_not_set_aside(
    store: FeatureStore, sealed: bool
) -> None:
    folder = store.features / IDENTITY.fingerprint
    if sealed:
        path = write_shard(folder, IDENTITY, VERSIONS, keys_for(0, 4), vectors_for(0, 4))
    else:
        path = _write_unsealed(folder)
    collection = store.collection(IDENTITY)
    with h5py.File(path, "r+"):
        for use in (
            lambda: store.collection(IDENTITY),
            lambda: read_all(collection, keys_for(0, 1)),
        ):
            with pytest.raises(InputError, match=r"\.h5: open for writing in another program"):
                use()
    assert path.exists()
    assert len(read_all(collection, keys_for(0, 4))) == 4


def test_a_shard_that_another_process_pruned(
    store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    collection = store.collection(IDENTITY)
    fill(collection, 0, 4)
    fill(collection, 4, 4)
    next(iter(collection.shards.values())).path.unlink()
    assert len(read_all(collection, keys_for(0, 8))) == 4
    assert collection.contains(keys_for(0, 8)).sum() == 4
    assert capsys.readouterr().err == ""


def test_two_processes_that_computed_the_same_share_a_shard(store: FeatureStore) -> None:
    one, other = store.collection(IDENTITY), store.collection(IDENTITY)
    fill(one, 0, 4)
    fill(other, 0, 4)
    assert len(other.shards) == 1
    fill(other, 2, 4)
    one.reload()
    assert len(read_all(one, keys_for(0, 6))) == 6


_WRITER = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
import test_store as t
from headstart.extraction import store as feature_store
feature_store.SHARD_ROWS = 16
collection = feature_store.FeatureStore(Path({root!r})).collection(t.IDENTITY)
print(len(collection), flush=True)
with collection.writer(t.SHAPE, t.VERSIONS) as writer:
    for number in range({first}, {last}):
        key = t.keys_for(number, 1)
        if not collection.contains(key)[0]:
            writer.add(key, t.vectors_for(number, 1))
"""


def _start_writer(root: Path, first: int, last: int) -> subprocess.Popen[str]:
    path = [str(Path(__file__).parent), str(Path(__file__).parents[3])]
    code = _WRITER.format(path=path, root=str(root), first=first, last=last)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_parallel_processes_do_not_disturb_each_other(store: FeatureStore) -> None:
    writers = [_start_writer(store.root, first, first + 200) for first in (0, 100, 0)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    collection = store.collection(IDENTITY)
    read = read_all(collection, keys_for(0, 300))
    assert len(read) == 300
    assert all(np.array_equal(read[n], vectors_for(n, 1)[0]) for n in range(0, 300, 37))


def test_sigkill_loses_at_most_one_open_shard(store: FeatureStore) -> None:
    """Whatever moment the kill comes at, every file under its final name is sound."""
    kept = 0
    for delay in (0.0, 0.05, 0.5):
        writer = _start_writer(store.root, 0, 100_000)
        assert writer.stdout is not None
        assert int(writer.stdout.readline()) == kept
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait(10)
        collection = store.collection(IDENTITY)
        kept = len(collection)
        assert kept % 16 == 0
        # All full, and without a hole: only what the open shard held is missing.
        assert collection.contains(keys_for(0, kept)).all()
        assert len(read_all(collection, keys_for(0, kept))) == kept
    assert kept > 0
    assert not list(collection.folder.glob("*.damaged"))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "No space left on device.*`headstart cache prune`"),
        (errno.EROFS, "Read-only file system.*make it writable"),
    ],
)
def test_no_room_or_no_permission(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, number: int, text: str
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    # A full disk cannot be had in a test without mounting one.
    monkeypatch.setattr(feature_store, "write_shard", fail)
    with pytest.raises(InputError, match=f"{text}.*another folder with HEADSTART_CACHE"):
        fill(store.collection(IDENTITY), 0, 1)


def test_halves_take_half_the_room(store: FeatureStore) -> None:
    identity = dataclasses.replace(IDENTITY, store_dtype="float16")
    collection = store.collection(identity)
    fill(collection, 0, 9)
    read = read_all(collection, keys_for(0, 9))
    for number, vector in read.items():
        assert vector.dtype == np.float32
        assert np.array_equal(vector, vectors_for(number, 1)[0].astype(np.float16))
    (shard,) = collection.shards.values()
    with h5py.File(shard.path, "r") as file:
        assert file["features"].dtype == np.float16
        assert file["features"].nbytes == 2 * 9 * SHAPE[0]
    assert not store.collection(IDENTITY).contains(keys_for(0, 9)).any()
    data = bytearray(shard.path.read_bytes())
    data[_offset_of(shard.path, "features") + 3] ^= 1
    shard.path.write_bytes(bytes(data))
    assert read_all(collection, keys_for(0, 9)) == {}


def test_what_halves_cannot_hold_is_refused(store: FeatureStore) -> None:
    identity = dataclasses.replace(IDENTITY, store_dtype="float16")
    collection = store.collection(identity)
    large = vectors_for(3, 2)
    large[1, 2] = -70_000

    def extract() -> None:
        with collection.writer(SHAPE, VERSIONS) as writer:
            writer.add(keys_for(0, 3), vectors_for(0, 3))
            writer.add(keys_for(3, 2), large)

    message = (
        r"extract\.store_dtype: expected features up to 65,504, which float16 can hold, received "
        r"70,000 from LeNet5, layer flatten: set extract\.store_dtype: float32"
    )
    with pytest.raises(InputError, match=message):
        extract()
    collection.reload()
    assert sorted(read_all(collection, keys_for(0, 5))) == [0, 1, 2]


def test_shards_are_plain_hdf5(store: FeatureStore) -> None:
    collection = store.collection(IDENTITY)
    fill(collection, 0, 4)
    (path,) = [shard.path for shard in collection.shards.values()]
    with h5py.File(path, "r") as file:
        assert json.loads(file.attrs["identity"])["backbone"] == "LeNet5"
        assert np.array_equal(file["features"][:], vectors_for(0, 4))
        assert np.array_equal(file["key"][:], keys_for(0, 4))
