"""Merging shards: every vector stays, in order, whatever others do and whenever a kill comes."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from headstart.common.cache import claim
from headstart.common.system_errors import WriteError
from headstart.extraction import compaction
from headstart.extraction import store as feature_store
from headstart.extraction.compaction import compact, compact_if_many
from headstart.extraction.shard import Shard, open_shard, write_shard
from headstart.extraction.store import Collection, FeatureStore
from headstart.extraction.store_index import INDEX_FILE, check_index
from tests.unit.extraction.test_store import (
    IDENTITY,
    SHAPE,
    VERSIONS,
    fill,
    keys_for,
    read_all,
    vectors_for,
)
from tests.unit.extraction.test_store_index import check_all


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    """Forty vectors in ten shards, computed in the order of their numbers."""
    collection = FeatureStore(tmp_path / "store").collection(IDENTITY)
    for number in range(10):
        put(collection, 4 * number, 4, age=100 - number)
    collection.reload()
    return collection


def put(
    collection: Collection, first: int, count: int, *, age: float = 0.0, version: str = "2.0"
) -> Path:
    path = write_shard(
        collection.folder,
        collection.identity,
        {"numpy": version},
        keys_for(first, count),
        vectors_for(first, count),
    )
    moment = time.time() - age
    os.utime(path, (moment, moment))
    return path


def shards_in(folder: Path) -> list[Shard]:
    return [open_shard(path) for path in sorted(folder.glob("*.h5"))]


def test_shards_become_one_in_the_order_in_which_they_were_computed(
    collection: Collection,
) -> None:
    before = [path.stat() for path in collection.folder.glob("*.h5")]
    done = compact(collection.folder)
    (merged,) = shards_in(collection.folder)
    assert np.array_equal(merged.keys, keys_for(0, 40))
    assert merged.versions == VERSIONS
    assert merged.path.stat().st_mtime_ns == max(status.st_mtime_ns for status in before)
    freed = sum(status.st_size for status in before) - merged.path.stat().st_size
    assert done == compaction.Compaction(IDENTITY, 10, 1, 40, 0, freed)
    check_all(FeatureStore(collection.folder.parents[1]).collection(IDENTITY), 40)
    assert compact(collection.folder).parts == 0


@pytest.mark.parametrize("with_index", [False, True])
def test_who_knows_the_parts_finds_the_merged_one(
    collection: Collection,
    with_index: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if with_index:
        monkeypatch.setattr(feature_store, "_INDEX_ROWS", 1)
        collection = Collection(collection.folder, IDENTITY)
        assert (collection.folder / INDEX_FILE).exists()
    compact(collection.folder)
    check_all(collection, 40)
    assert capsys.readouterr().err == ""
    if with_index:
        check_index(collection.folder / INDEX_FILE)


def test_merged_while_it_is_read(collection: Collection) -> None:
    read: dict[int, np.ndarray] = {}
    for positions, vectors in collection.read(keys_for(0, 40)):
        compact(collection.folder)
        for position, vector in zip(positions.tolist(), vectors, strict=True):
            assert position not in read
            read[position] = vector
    assert all(np.array_equal(read[n], vectors_for(n, 1)[0]) for n in range(40))


def test_what_is_there_twice_is_kept_once(collection: Collection) -> None:
    put(collection, 2, 6)
    done = compact(collection.folder)
    assert (done.rows, done.duplicates) == (40, 6)
    (merged,) = shards_in(collection.folder)
    assert np.array_equal(merged.keys, keys_for(0, 40))
    check_all(Collection(collection.folder, IDENTITY), 40)


def test_a_shard_that_holds_all_of_another(tmp_path: Path) -> None:
    collection = FeatureStore(tmp_path / "store").collection(IDENTITY)
    whole = put(collection, 0, 8, age=9)
    put(collection, 2, 3, age=5)
    assert compact(collection.folder).duplicates == 3
    assert [shard.path for shard in shards_in(collection.folder)] == [whole]
    check_all(Collection(collection.folder, IDENTITY), 8)


def test_versions_are_kept_apart(collection: Collection) -> None:
    put(collection, 40, 3, version="3.0")
    put(collection, 43, 3, version="3.0")
    compact(collection.folder)
    assert sorted(
        (len(shard), shard.versions["numpy"]) for shard in shards_in(collection.folder)
    ) == [
        (6, "3.0"),
        (40, "2.0"),
    ]


def test_a_merged_shard_is_closed_at_its_size(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MERGED_ROWS", 14)
    for _ in range(2):
        compact(collection.folder)
        assert sorted(len(shard) for shard in shards_in(collection.folder)) == [4, 12, 12, 12]
    monkeypatch.setattr(compaction, "MERGED_ROWS", 65_536)
    size = max(shard.path.stat().st_size for shard in shards_in(collection.folder))
    assert compact(collection.folder, below=1).parts == 0
    monkeypatch.setattr(compaction, "MERGED_BYTES", 2 * size)
    compact(collection.folder)
    assert sorted(len(shard) for shard in shards_in(collection.folder)) == [16, 24]
    check_all(Collection(collection.folder, IDENTITY), 40)


def test_halves_stay_halves(tmp_path: Path) -> None:
    identity = dataclasses.replace(IDENTITY, store_dtype="float16")
    collection = FeatureStore(tmp_path / "store").collection(identity)
    for number in range(3):
        put(collection, 4 * number, 4)
    collection.reload()
    before = read_all(collection, keys_for(0, 12))
    compact(collection.folder)
    after = read_all(collection, keys_for(0, 12))
    assert all(np.array_equal(after[n], before[n]) for n in range(12))
    (merged,) = shards_in(collection.folder)
    with h5py.File(merged.path, "r") as file:
        assert file["features"].dtype == np.float16


def _damage(path: Path) -> None:
    offset = open_shard(path).offset
    data = bytearray(path.read_bytes())
    data[offset + 4 * SHAPE[0] + 2] ^= 1
    path.write_bytes(bytes(data))


def test_a_damaged_part_is_set_aside(
    collection: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [
        next(s.path for s in shards_in(collection.folder) if (s.keys == keys_for(n, 4)).all())
        for n in (8, 20)
    ]
    _damage(paths[0])
    os.truncate(paths[1], 700)
    done = compact(collection.folder)
    assert (done.parts, done.rows) == (8, 32)
    told = capsys.readouterr().err
    assert f"{paths[0]}: a part of the feature store is damaged: the checksum of row 1" in told
    assert all(path.with_name(f"{path.name}.damaged").exists() for path in paths)
    left = [n for n in range(40) if n // 4 not in (2, 5)]
    read = read_all(Collection(collection.folder, IDENTITY), keys_for(0, 40))
    assert sorted(read) == left
    assert all(np.array_equal(read[n], vectors_for(n, 1)[0]) for n in left)


def test_what_is_left_alone(collection: Collection, tmp_path: Path) -> None:
    """Links, what another program writes to, what is being written, and other users' shards."""
    mine = tmp_path / "mine.h5"
    paths = shards_in(collection.folder)
    paths[0].path.rename(mine)
    linked = collection.folder / "linked.h5"
    linked.symlink_to(mine)
    hidden = collection.folder / ".hidden.h5"
    hidden.write_text("x")
    with h5py.File(paths[1].path, "r+"):
        done = compact(collection.folder)
    assert done.parts == 8
    assert linked.is_symlink()
    assert mine.exists()
    assert hidden.read_text() == "x"
    assert paths[1].path.exists()
    assert len(read_all(Collection(collection.folder, IDENTITY), keys_for(0, 40))) == 40


def test_other_users_shards(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    assert compact(collection.folder).parts == 0
    assert len(shards_in(collection.folder)) == 10


def test_one_process_at_a_time(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_MANY", 1)
    with claim(collection.folder):
        with pytest.raises(BlockingIOError):
            compact(collection.folder)
        compact_if_many(collection)
        assert len(collection.shards) == 10
    compact_if_many(collection)
    assert len(collection.shards) == 1
    check_all(collection, 40)


def test_a_store_that_may_not_be_written_to(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(30, os.strerror(30))

    # No folder is read-only for root.
    monkeypatch.setattr(compaction, "stream_shard", fail)
    monkeypatch.setattr(compaction, "_MANY", 1)
    with pytest.raises(WriteError, match="Read-only file system.*HEADSTART_CACHE"):
        compact(collection.folder)
    compact_if_many(collection)
    check_all(collection, 40)
    assert len(collection.shards) == 10


def test_by_itself_only_many_and_small_ones(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_MANY", 10)
    compact_if_many(collection)
    assert len(collection.shards) == 10
    fill(collection, 40, 1)
    monkeypatch.setattr(compaction, "_SMALL_BYTES", 1)
    compact_if_many(collection)
    assert len(collection.shards) == 11
    monkeypatch.undo()
    monkeypatch.setattr(compaction, "_MANY", 10)
    compact_if_many(collection)
    assert len(collection.shards) == 1
    check_all(collection, 41)


_PROCESS = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
import test_store as t
from headstart.extraction import compaction, store as feature_store
from headstart.extraction.compaction import compact
feature_store.SHARD_ROWS = 4
feature_store._INDEX_SHARDS = 8
compaction.MERGED_ROWS = 100
collection = feature_store.FeatureStore(Path({root!r})).collection(t.IDENTITY)
print("ready", flush=True)
{work}
"""

_COMPACT = """
import time
while True:
    try:
        compact(collection.folder)
    except BlockingIOError:
        pass
    collection.reload()
    if {stop!r} and Path({stop!r}).exists():
        break
    time.sleep(0.01)
"""

_WRITE = """
for number in range({first}, {last}):
    key = t.keys_for(number, 1)
    if not collection.contains(key)[0]:
        with collection.writer(t.SHAPE, t.VERSIONS) as writer:
            writer.add(key, t.vectors_for(number, 1))
    if number % 10 == 0:
        collection.reload()
"""


def start(root: Path, work: str) -> subprocess.Popen[str]:
    path = [str(Path(__file__).parent), str(Path(__file__).parents[3])]
    code = _PROCESS.format(path=path, root=str(root), work=work)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_sigkill_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = FeatureStore(tmp_path / "store")
    collection = store.collection(IDENTITY)
    for number in range(40):
        put(collection, 2 * number, 2, age=100 - number)
    waits = random.Random(0)
    for round_ in range(4):
        process = start(store.root, _COMPACT.format(stop=""))
        time.sleep(waits.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        check_all(store.collection(IDENTITY), 80)
        # So that there is something to merge in the next round.
        put(collection, 2 * round_, 2)
    compact(collection.folder)
    check_all(store.collection(IDENTITY), 80)
    assert len(shards_in(collection.folder)) <= 2
    assert not list(collection.folder.glob("*.damaged"))
    assert capsys.readouterr().err == ""


def test_writers_readers_and_two_that_merge_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FeatureStore(tmp_path / "store")
    collection = store.collection(IDENTITY)
    fill(collection, 0, 20)
    stop = tmp_path / "stop"
    merging = [start(store.root, _COMPACT.format(stop=str(stop))) for _ in range(2)]
    writing = [start(store.root, _WRITE.format(first=first, last=first + 60)) for first in (20, 50)]
    while any(writer.poll() is None for writer in writing):
        check_all(collection, 20)
        check_all(store.collection(IDENTITY), 20)
    assert [writer.returncode for writer in writing] == [0, 0]
    stop.touch()
    assert [process.wait(30) for process in merging] == [0, 0]
    check_all(store.collection(IDENTITY), 110)
    collection.reload()
    check_all(collection, 110)
    assert not list(collection.folder.glob("*.damaged"))
    assert capsys.readouterr().err == ""
