"""The index points and never decides: whatever is in it, no wrong vector is served."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from headstart.extraction import store as feature_store
from headstart.extraction import store_index
from headstart.extraction.shard import Shard, write_shard
from headstart.extraction.store import Collection, FeatureStore
from headstart.extraction.store_index import (
    INDEX_FILE,
    BrokenIndex,
    ListedShard,
    check_index,
    open_index,
)
from tests.mutations import mutations
from tests.unit.extraction.test_store import (
    IDENTITY,
    SHAPE,
    VERSIONS,
    fill,
    keys_for,
    read_all,
    vectors_for,
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen vectors or four shards are worth an index, which is merged in several blocks."""
    monkeypatch.setattr(feature_store, "_INDEX_ROWS", 16)
    monkeypatch.setattr(feature_store, "_INDEX_SHARDS", 4)
    monkeypatch.setattr(feature_store, "SHARD_ROWS", 8)
    monkeypatch.setattr(store_index, "_BLOCK_ROWS", 7)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


@pytest.fixture
def indexed(store: FeatureStore) -> Collection:
    """Forty vectors in five shards, all in the index."""
    collection = store.collection(IDENTITY)
    fill(collection, 0, 40)
    assert (collection.folder / INDEX_FILE).exists()
    return store.collection(IDENTITY)


def check_all(collection: Collection, count: int) -> None:
    assert collection.contains(keys_for(0, count)).all()
    read = read_all(collection, keys_for(0, count))
    assert sorted(read) == list(range(count))
    assert all(np.array_equal(read[n], vectors_for(n, 1)[0]) for n in range(count))


def test_a_small_collection_has_no_index(store: FeatureStore) -> None:
    collection = store.collection(IDENTITY)
    fill(collection, 0, 16)
    assert not (collection.folder / INDEX_FILE).exists()


def test_an_index_stands_for_its_shards(
    indexed: Collection, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> Shard:
        raise AssertionError(f"{path} was opened")

    path = indexed.folder / INDEX_FILE
    assert path.stat().st_size == 4096 + 16 * 40
    monkeypatch.setattr(feature_store, "open_shard", fail)
    collection = store.collection(IDENTITY)
    assert (len(collection), collection.feature_shape) == (40, SHAPE)
    assert collection.contains(keys_for(0, 50)).tolist() == [True] * 40 + [False] * 10
    assert collection.versions(keys_for(3, 1)) == VERSIONS
    collection.reload()
    monkeypatch.undo()
    check_all(collection, 40)


def test_a_range_of_keys_is_a_range_of_entries(indexed: Collection) -> None:
    index = open_index(indexed.folder / INDEX_FILE, indexed.folder)
    first = np.concatenate([entries[0] for entries in index.entries()])
    expected = sorted(int.from_bytes(key[:8].tobytes(), "big") for key in keys_for(0, 40))
    assert first.tolist() == expected


def test_what_the_index_does_not_know_is_in_memory_until_it_is_much(
    indexed: Collection, store: FeatureStore
) -> None:
    path = indexed.folder / INDEX_FILE
    before = path.stat().st_ino
    for first, count in ((40, 8), (48, 3)):
        fill(indexed, first, count)
        assert path.stat().st_ino == before
        check_all(indexed, first + count)
        check_all(store.collection(IDENTITY), first + count)
    fill(indexed, 51, 9)
    assert path.stat().st_ino != before
    check_index(path)
    assert all(isinstance(shard, ListedShard) for shard in indexed.shards.values())
    check_all(indexed, 60)


def test_many_small_shards_are_worth_an_index(store: FeatureStore) -> None:
    collection = store.collection(IDENTITY)
    for number in range(5):
        fill(collection, number, 1)
    check_index(collection.folder / INDEX_FILE)
    check_all(store.collection(IDENTITY), 5)


def test_another_processes_index_is_taken_over(
    indexed: Collection, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store.collection(IDENTITY), 40, 40)

    def fail(path: Path) -> Shard:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(feature_store, "open_shard", fail)
    indexed.reload()
    assert indexed.contains(keys_for(0, 80)).all()


def test_rows_of_shards_that_are_gone_are_absent(
    indexed: Collection, store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    path = indexed.folder / INDEX_FILE
    before = path.stat().st_ino
    # One of its vectors is in another shard, too.
    fill(indexed, 0, 1)
    gone = next(
        name
        for name in indexed.shards
        if isinstance(indexed.shards[name], ListedShard)
        and keys_for(0, 1)[0] in feature_store.open_shard(indexed.folder / name).keys
    )
    lost = {key.tobytes() for key in feature_store.open_shard(indexed.folder / gone).keys}
    (indexed.folder / gone).unlink()
    expected = [n == 0 or keys_for(n, 1).tobytes() not in lost for n in range(40)]
    assert len(read_all(indexed, keys_for(0, 40))) == sum(expected)
    for collection in (indexed, store.collection(IDENTITY)):
        assert collection.contains(keys_for(0, 40)).tolist() == expected
    assert path.stat().st_ino == before
    fill(indexed, 40, 20)
    assert len(open_index(path, indexed.folder).shards) == len(indexed.shards)
    check_index(path)
    assert capsys.readouterr().err == ""


def test_keys_with_the_same_beginning(store: FeatureStore) -> None:
    """Of those that share eight bytes the next four decide; of more, the shard's own."""
    keys = np.zeros((30, 32), np.uint8)
    keys[:, 11] = range(30)
    collection = store.collection(IDENTITY)
    with collection.writer(SHAPE, VERSIONS) as writer:
        writer.add(keys[:24], vectors_for(0, 24))
    collection.reload()
    check_index(collection.folder / INDEX_FILE)
    assert collection.contains(keys).tolist() == [True] * 24 + [False] * 6
    read = read_all(collection, keys)
    assert sorted(read) == list(range(24))
    assert all(np.array_equal(read[n], vectors_for(n, 1)[0]) for n in range(24))


def test_a_key_that_shares_all_that_the_index_knows(
    indexed: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    other = keys_for(5, 1).copy()
    other[0, 31] ^= 1
    keys = np.concatenate([keys_for(0, 10), other])
    assert sorted(read_all(indexed, keys)) == list(range(10))
    assert capsys.readouterr().err == ""


def _rewrite(path: Path, change: slice, values: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[change] = values
    # As anything else puts it there: those who have it mapped keep the old one.
    path.with_name("new").write_bytes(data)
    path.with_name("new").replace(path)


def test_a_wrong_index_is_made_anew(
    indexed: Collection, store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    path = indexed.folder / INDEX_FILE
    rows = np.frombuffer(path.read_bytes(), "<u4", 40, 4096 + 12 * 40)
    _rewrite(path, slice(4096 + 12 * 40, None), rows[::-1].tobytes())
    with pytest.raises(BrokenIndex, match="it does not fit"):
        check_index(path)
    check_all(store.collection(IDENTITY), 40)
    told = capsys.readouterr().err
    assert told.count("the index of the feature store is damaged: it names other vectors") == 1
    assert "nothing is lost" in told
    check_index(path)
    check_all(store.collection(IDENTITY), 40)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("change", "values", "problem"),
    [
        (slice(0, 17), b"headstart index 2", "its first line is damaged, or of another format"),
        (slice(200, 202), b"??", "its list of shards was damaged or changed"),
        (slice(-1, None), b"", "bytes, received"),
        (slice(0, None), b"", "expected a file with content"),
    ],
)
def test_an_index_of_another_format_or_damaged(
    indexed: Collection,
    store: FeatureStore,
    capsys: pytest.CaptureFixture[str],
    change: slice,
    values: bytes,
    problem: str,
) -> None:
    path = indexed.folder / INDEX_FILE
    _rewrite(path, change, values)
    check_all(store.collection(IDENTITY), 40)
    assert problem in capsys.readouterr().err
    check_index(path)


def test_a_damaged_index_of_few_vectors(
    store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    collection = store.collection(IDENTITY)
    fill(collection, 0, 3)
    path = collection.folder / INDEX_FILE
    path.write_text("damaged")
    check_all(store.collection(IDENTITY), 3)
    assert "its first line is damaged" in capsys.readouterr().err
    check_index(path)
    check_all(store.collection(IDENTITY), 3)
    path.write_text("damaged")
    (shard,) = collection.shards.values()
    shard.path.unlink()
    assert len(store.collection(IDENTITY)) == 0
    assert capsys.readouterr().err == ""


def test_entries_out_of_order_are_noticed_when_they_are_merged(
    indexed: Collection, store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    path = indexed.folder / INDEX_FILE
    first = np.frombuffer(path.read_bytes(), "<u8", 40, 4096)
    _rewrite(path, slice(4096, 4096 + 8 * 40), first[::-1].tobytes())
    collection = store.collection(IDENTITY)
    fill(collection, 40, 20)
    assert "its entries are not in order" in capsys.readouterr().err
    check_index(path)
    check_all(collection, 60)


def test_an_index_that_hides_what_is_stored_is_noticed_when_it_is_stored_again(
    indexed: Collection, store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    path = indexed.folder / INDEX_FILE
    _rewrite(path, slice(4096, 4096 + 8 * 40), bytes(8 * 40))
    collection = store.collection(IDENTITY)
    assert not collection.contains(keys_for(0, 40)).any()
    # Shards of the same names as those that are there.
    fill(collection, 0, 40)
    assert "it hides vectors that are there" in capsys.readouterr().err
    check_all(collection, 40)
    check_index(path)


def test_another_shard_under_the_name_of_one(indexed: Collection, store: FeatureStore) -> None:
    elsewhere = FeatureStore(store.root.parent / "other").collection(IDENTITY)
    fill(elsewhere, 100, 3)
    (other,) = elsewhere.shards.values()
    name, listed = next(iter(indexed.shards.items()))
    own = feature_store.open_shard(listed.path).keys
    (indexed.folder / name).write_bytes(other.path.read_bytes())
    collection = store.collection(IDENTITY)
    read = read_all(collection, np.concatenate([keys_for(0, 40), keys_for(100, 3)]))
    left = [n for n in range(40) if not (own == keys_for(n, 1)).all(axis=1).any()]
    assert set(left) <= set(read)
    assert all(np.array_equal(read[n], vectors_for(n, 1)[0]) for n in left)
    assert not set(read) & (set(range(40)) - set(left))
    assert np.array_equal(read_all(collection, keys_for(100, 1))[0], vectors_for(100, 1)[0])


def test_no_change_of_the_index_gives_a_wrong_vector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FeatureStore(tmp_path / "store")
    collection = store.collection(IDENTITY)
    fill(collection, 0, 40)
    path = collection.folder / INDEX_FILE
    sound = path.read_bytes()
    vectors = vectors_for(0, 40)

    @given(mutations(sound))
    @settings(max_examples=60, deadline=None)
    def check(changed: bytes) -> None:
        path.with_name("new").write_bytes(changed)
        path.with_name("new").replace(path)
        read = read_all(store.collection(IDENTITY), keys_for(0, 40))
        assert all(np.array_equal(read[n], vectors[n]) for n in read)
        # What is not found is computed again, which is all that may happen.
        again = store.collection(IDENTITY)
        fill(again, 0, 40)
        assert len(read_all(again, keys_for(0, 40))) == 40
        for shard in again.folder.glob("*.h5"):
            if shard.name not in collection.shards:
                shard.unlink()

    check()
    assert "the index of the feature store is damaged" in capsys.readouterr().err


def test_where_nothing_can_be_written_it_is_in_memory(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for first in range(0, 40, 8):
        write_shard(
            store.features / IDENTITY.fingerprint,
            IDENTITY,
            VERSIONS,
            keys_for(first, 8),
            vectors_for(first, 8),
        )

    def fail(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    # No folder is read-only for root.
    monkeypatch.setattr(feature_store, "atomic_write", fail)
    collection = store.collection(IDENTITY)
    assert not (collection.folder / INDEX_FILE).exists()
    assert all(isinstance(shard, ListedShard) for shard in collection.shards.values())
    check_all(collection, 40)
    assert capsys.readouterr().err == ""


def test_a_link_in_its_place_is_not_followed(store: FeatureStore, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    collection = store.collection(IDENTITY)
    collection.folder.mkdir(parents=True)
    (collection.folder / INDEX_FILE).symlink_to(mine)
    fill(collection, 0, 40)
    check_all(store.collection(IDENTITY), 40)
    assert (collection.folder / INDEX_FILE).is_symlink()
    assert mine.read_text() == "mine"


def test_an_index_is_made_without_holding_all_keys(
    indexed: Collection, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store, "_MOST_OPENED_ROWS", 8)
    held = []
    merge = Collection._merge

    def note(self: Collection, names: set[str]) -> None:
        held.append(sum(map(len, self._opened.values())))
        merge(self, names)

    monkeypatch.setattr(Collection, "_merge", note)
    (indexed.folder / INDEX_FILE).unlink()
    collection = store.collection(IDENTITY)
    # No more than the index has already, and a shard.
    assert held == [16, 24]
    check_index(indexed.folder / INDEX_FILE)
    check_all(collection, 40)


def test_more_rows_than_an_index_can_number(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store, "MOST_ROWS", 30)
    collection = store.collection(IDENTITY)
    fill(collection, 0, 40)
    assert not (collection.folder / INDEX_FILE).exists()
    check_all(collection, 40)


def test_a_damaged_shard_of_an_index(
    indexed: Collection, store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    name, listed = next(iter(indexed.shards.items()))
    os.truncate(listed.path, 700)
    collection = store.collection(IDENTITY)
    assert len(read_all(collection, keys_for(0, 40))) == 40 - len(listed)
    assert collection.contains(keys_for(0, 40)).sum() == 40 - len(listed)
    assert f"{name}: a part of the feature store is damaged" in capsys.readouterr().err
    assert listed.path.with_name(f"{name}.damaged").exists()
