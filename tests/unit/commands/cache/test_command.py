"""`headstart cache` on everything below the cache folder, beside processes that are at work."""

import errno
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from headstart.commands import cli
from headstart.commands.cache import upkeep
from headstart.common.cache import FEATURES, KINDS, TAG_FILE, UNSEALED, Keep, claim
from headstart.common.errors import InputError
from headstart.common.temporaries import temporary_folder
from headstart.extraction import compaction
from headstart.extraction import store as feature_store
from headstart.extraction.store import FeatureStore
from headstart.extraction.store_index import INDEX_FILE
from tests.feature_files import make_identity
from tests.unit.extraction.test_store import IDENTITY, fill, keys_for

DAY = 86_400


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    """A store with three shards of 4, 5 and 6 vectors, last used 30, 20 and 10 days ago."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "store"))
    store = FeatureStore()
    collection = store.collection(IDENTITY)
    for index, count in enumerate((4, 5, 6)):
        before = set(collection.shards)
        fill(collection, 10 * index, count)
        (name,) = set(collection.shards) - before
        _age(collection.folder / name, 30 - 10 * index)
    return store


def _age(path: Path, days: float) -> None:
    moment = time.time() - days * DAY
    os.utime(path, (moment, moment))


def _left(store: FeatureStore) -> list[int]:
    return sorted(len(shard) for shard in store.collection(IDENTITY).shards.values())


def keep_one(kind: str, digit: str, content: bytes = b"x" * 100, days: float = 0) -> Path:
    """Keep a file in the user's cache folder, last used so long ago."""
    keep = Keep(kind)
    with keep.create(digit * 64) as folder:
        (folder / "model.xml").write_bytes(content)
    _age(keep.root / (digit * 64), days)
    return keep.root / (digit * 64)


def bytes_below(folder: Path) -> int:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != TAG_FILE]
    return sum(path.stat().st_size for path in files)


def info(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert cli.main(["cache", "info", "--json"]) == 0
    content: dict[str, object] = json.loads(capsys.readouterr().out)
    return content


def test_info(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    keep_one("models", "a", days=3)
    assert cli.main(["cache", "info"]) == 0
    text = capsys.readouterr().out
    assert "LeNet5 32 x 24" in text
    assert "openvino float32" in text
    assert "10 days ago" in text
    assert re.search(r"converted models +1 +\d+ B +0 B +0 B +3 days ago", text)
    assert f"{store.root} (HEADSTART_CACHE names another): " in text
    assert "0 B to prune" in text

    content = info(capsys)
    (extractor,) = content["extractors"]
    assert (extractor["vectors"], extractor["shards"]) == (15, 3)
    files = store.features.rglob("*.h5")
    assert extractor["bytes"] == sum(file.stat().st_size for file in files)
    assert content["kinds"]["features"] == {"entries": 3, "bytes": extractor["bytes"]}
    assert content["kinds"]["models"]["entries"] == 1


def test_every_kind_is_seen_and_freed(
    store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in KINDS:
        if kind not in (FEATURES, *UNSEALED):
            keep_one(kind, "b")
    for kind in UNSEALED:
        growing = store.root / kind / ("c" * 64)
        growing.mkdir(parents=True)
        (growing / "content").write_bytes(b"x" * 10)
    content = info(capsys)
    assert all(kind["entries"] for kind in content["kinds"].values())
    assert content["bytes"] == bytes_below(store.root)
    assert cli.main(["cache", "verify"]) == 0
    assert "15 vectors and 12 other results are sound; 0 files" in capsys.readouterr().out
    assert cli.main(["cache", "prune", "--max-size", "0"]) == 0
    assert bytes_below(store.root) == 0


def test_info_of_an_empty_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "nothing"))
    assert cli.main(["cache", "info"]) == 0
    assert capsys.readouterr().out.endswith("names another): 0 B, of which 0 B to prune\n")


def test_info_beside_a_running_extraction(
    store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files appear under a temporary name, are renamed, and are deleted all the time."""
    folder, stop = store.collection(IDENTITY).folder, threading.Event()
    shard = min(store.features.rglob("*.h5"))
    content = shard.read_bytes()

    def write() -> None:
        while not stop.is_set():
            (folder / ".0-a.h5").write_bytes(content)
            (folder / ".0-a.h5").replace(shard)
            shard.unlink()
            with temporary_folder(store.root / "finetune") as temporary:
                (temporary / "trunk-0.h5").write_bytes(b"x")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(30):
            assert cli.main(["cache", "info"]) == 0
            assert cli.main(["cache", "verify"]) == 0
            assert cli.main(["cache", "prune"]) == 0
    finally:
        stop.set()
        thread.join()
    assert "damaged:" not in capsys.readouterr().err


def test_what_vanishes_between_listing_and_looking(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = upkeep._scan

    def vanish(folder: Path) -> list[Path]:
        paths = listed(folder)
        if folder.parent == store.features:
            paths[0].unlink()
        return paths

    monkeypatch.setattr(upkeep, "_scan", vanish)
    assert info(capsys)["kinds"]["features"]["entries"] == 2


def test_verify(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cache", "verify"]) == 0
    assert "15 vectors and 0 other results are sound; 0 files" in capsys.readouterr().out

    shard = max(store.collection(IDENTITY).shards.values(), key=len)
    data = bytearray(shard.path.read_bytes())
    data[shard.offset + 3] ^= 1
    shard.path.write_bytes(bytes(data))
    fit, sound = keep_one("fits", "a"), keep_one("fits", "b")
    (fit / "model.xml").write_bytes(b"y" * 100)
    assert cli.main(["cache", "verify"]) == 1
    captured = capsys.readouterr()
    assert "9 vectors and 1 other results are sound; 2 files" in captured.out
    assert "the checksum of row 0 does not fit" in captured.err
    assert "the checksum of model.xml does not fit" in captured.err
    assert _left(store) == [4, 5]
    assert sound.exists()
    assert not fit.exists()
    assert cli.main(["cache", "verify"]) == 0


@pytest.fixture
def indexed(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The index of the three shards."""
    monkeypatch.setattr(feature_store, "_INDEX_ROWS", 1)
    return store.collection(IDENTITY).folder / INDEX_FILE


def test_an_index_is_neither_a_shard_nor_rubbish(
    indexed: Path, store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    content = info(capsys)
    (extractor,) = content["extractors"]
    assert (extractor["vectors"], extractor["shards"]) == (15, 3)
    size = extractor["bytes"] + indexed.stat().st_size
    assert content["kinds"]["features"] == {"entries": 3, "bytes": size}
    assert (content["bytes"], content["rubbish_bytes"]) == (bytes_below(store.root), 0)
    assert cli.main(["cache", "info"]) == 0
    assert re.search(r"features +3 ", capsys.readouterr().out)


def test_verify_compares_an_index_with_its_shards(
    indexed: Path, store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["cache", "verify"]) == 0
    assert "15 vectors and 0 other results are sound; 0 files" in capsys.readouterr().out
    data = bytearray(indexed.read_bytes())
    data[-3] ^= 1
    indexed.write_bytes(data)
    assert cli.main(["cache", "verify"]) == 1
    captured = capsys.readouterr()
    assert "15 vectors and 0 other results are sound; 1 files" in captured.out
    assert f"{indexed}: the index of the feature store is damaged: it does not fit" in captured.err
    assert not indexed.exists()
    assert _left(store) == [4, 5, 6]
    assert cli.main(["cache", "verify"]) == 0


def test_an_index_goes_with_its_last_shard(
    indexed: Path, store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    _age(indexed, 99)
    assert cli.main(["cache", "prune", "--older-than", "15"]) == 0
    assert indexed.exists()
    capsys.readouterr()
    assert cli.main(["cache", "prune", "--max-size", "0"]) == 0
    assert "2 files or folders deleted" in capsys.readouterr().out
    assert bytes_below(store.root) == 0
    # One that a process has written right after.
    indexed.write_text("x")
    assert info(capsys)["rubbish_bytes"] == 1
    assert cli.main(["cache", "prune"]) == 0
    assert not indexed.exists()


def test_compact(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    fill(store.collection(IDENTITY), 2, 4)
    other = store.collection(make_identity(layer="other"))
    fill(other, 0, 3)
    assert cli.main(["cache", "compact"]) == 0
    told = capsys.readouterr().out
    assert re.fullmatch(
        r"4 files of features merged into 1; 2 vectors were there twice, [\d.]+ kB freed\n", told
    )
    assert _left(store) == [17]
    assert cli.main(["cache", "verify"]) == 0
    assert "20 vectors and 0 other results are sound; 0 files" in capsys.readouterr().out
    assert cli.main(["cache", "compact"]) == 0
    assert capsys.readouterr().out.startswith("0 files of features merged into 0; 0 vectors")


def test_compact_leaves_alone_what_it_must(
    store: FeatureStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = store.collection(IDENTITY).folder
    with claim(folder):
        assert cli.main(["cache", "compact"]) == 0
    captured = capsys.readouterr()
    assert "0 files of features merged" in captured.out
    assert f"{folder}: another process merges its shards" in captured.err
    folder.rename(tmp_path / "mine")
    folder.symlink_to(tmp_path / "mine")
    assert cli.main(["cache", "compact"]) == 0
    captured = capsys.readouterr()
    assert "0 files of features merged" in captured.out
    assert f"{folder}: a symbolic link" in captured.err
    assert len(list((tmp_path / "mine").glob("*.h5"))) == 3


def test_compact_where_nothing_may_be_written(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # No folder is read-only for root.
    monkeypatch.setattr(compaction, "stream_shard", fail)
    assert cli.main(["cache", "compact"]) == 0
    assert "Read-only file system" in capsys.readouterr().err
    assert _left(store) == [4, 5, 6]


def test_prune_what_is_old(store: FeatureStore) -> None:
    assert cli.main(["cache", "prune", "--older-than", "15"]) == 0
    assert _left(store) == [6]


def test_reading_counts_as_use(store: FeatureStore) -> None:
    for _ in store.collection(IDENTITY).read(keys_for(0, 4)):
        pass
    assert cli.main(["cache", "prune", "--older-than", "15"]) == 0
    assert _left(store) == [4, 6]


def test_prune_what_is_too_much(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [file.stat().st_size for file in store.features.rglob("*.h5")]
    assert cli.main(["cache", "prune", "--max-size", f"{sum(sizes) - 1}"]) == 0
    assert _left(store) == [5, 6]
    assert "1 files or folders deleted" in capsys.readouterr().out
    assert cli.main(["cache", "prune", "--max-size", "0.1kB"]) == 0
    assert _left(store) == []
    assert not store.collection(IDENTITY).contains(keys_for(0, 4)).any()


def test_prune_by_last_use_over_all_kinds(store: FeatureStore) -> None:
    old, new = keep_one("models", "a", days=25), keep_one("fits", "b", days=5)
    run = store.root / "finetune" / ("c" * 64)
    run.mkdir(parents=True)
    (run / "checkpoint.h5").write_bytes(b"x" * 1000)
    _age(run, 15)
    # Used 30, 25, 20, 15, 10 and 5 days ago; half of the bytes of the third make no difference.
    oldest = min(store.features.rglob("*.h5"), key=lambda path: path.stat().st_mtime)
    limit = bytes_below(store.root) - oldest.stat().st_size - bytes_below(old)
    assert cli.main(["cache", "prune", "--max-size", str(limit)]) == 0
    assert (_left(store), old.exists(), run.exists(), new.exists()) == ([5, 6], False, True, True)
    assert cli.main(["cache", "prune", "--older-than", "12"]) == 0
    assert (_left(store), run.exists(), new.exists()) == ([6], False, True)


def test_prune_alone_deletes_only_rubbish(store: FeatureStore) -> None:
    folder = store.collection(IDENTITY).folder
    damaged, left_over, being_written, foreign = (
        folder / name for name in ("a.h5.damaged", ".old-x.h5", ".new-y.h5", "notes.txt")
    )
    for path in (damaged, left_over, being_written, foreign):
        path.write_text("x")
    half_converted, being_converted = (store.root / "models" / f".{x * 8}" for x in "ab")
    half_converted.mkdir(parents=True)
    being_converted.mkdir()
    (store.root / "costs").mkdir()
    outdated = store.root / "costs" / f"{'d' * 64}.json"
    outdated.write_text("{}")
    # A user may have named a folder with folders of their own.
    mine = [store.root / "models" / name for name in ("heads", ".gitignore", ".dvc", "finetuned")]
    for path in mine:
        path.mkdir()
    for path in (left_over, half_converted, foreign, *mine):
        _age(path, 1)
    assert cli.main(["cache", "prune"]) == 0
    assert _left(store) == [4, 5, 6]
    assert all(path.exists() for path in (being_written, being_converted, foreign, *mine))
    assert not any(path.exists() for path in (damaged, left_over, half_converted, outdated))
    assert cli.main(["cache", "prune", "--older-than", "0"]) == 0
    assert all(path.exists() for path in (being_written, being_converted, foreign, *mine))


def test_a_process_at_work_keeps_what_it_holds(
    store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    run = store.root / "finetune" / ("c" * 64)
    with claim(run), temporary_folder(run.parent) as trunk, Keep("fits").create("a" * 64) as fit:
        for path in (run / "checkpoint.h5", trunk / "trunk-0.h5", fit / "weights.h5"):
            path.write_bytes(b"x" * 100)
        for path in (trunk / "lock", trunk / "trunk-0.h5", trunk, fit, fit.parent, run):
            _age(path, 99)
        assert info(capsys)["kinds"]["finetune"] == {"entries": 2, "bytes": 200}
        assert cli.main(["cache", "prune", "--max-size", "0", "--older-than", "0"]) == 0
        assert (run / "checkpoint.h5").exists()
        assert (trunk / "trunk-0.h5").exists()
    assert Keep("fits").find("a" * 64) is not None
    assert not trunk.exists()
    _age(run, 99)
    assert cli.main(["cache", "prune", "--older-than", "98"]) == 0
    assert not run.exists()


def test_what_a_killed_process_leaves_is_freed(
    store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import time; from headstart.common.cache import *\n"
        "from headstart.common.files import temporary_folder\n"
        "run = cache_folder() / 'finetune' / ('c' * 64)\n"
        "with claim(run), temporary_folder(run.parent) as folder:\n"
        "    (folder / 'trunk-0.h5').write_bytes(b'x' * 1000)\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    assert cli.main(["cache", "prune"]) == 0
    assert (folder / "trunk-0.h5").exists()
    process.kill()
    process.wait()
    capsys.readouterr()
    assert info(capsys)["rubbish_bytes"] == 1000
    assert cli.main(["cache", "prune"]) == 0
    assert "2 files or folders deleted, 1.0 kB freed" in capsys.readouterr().out
    assert not any((store.root / "finetune").iterdir())


def test_a_project_is_never_taken_for_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    for path in ("models/heads/ridge/card.json", "features/bottleneck.h5", "features/a.h5"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    (tmp_path / "models" / ("a" * 64)).mkdir()
    before = sorted(tmp_path.rglob("*"))
    for action in ("info", "verify", "compact", "prune"):
        assert cli.main(["cache", action]) == 1
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert f"{tmp_path}: expected Headstart's cache" in message
        assert "holds features/a.h5" in message
        assert "with HEADSTART_CACHE" in message
    with pytest.raises(InputError, match="holds features/a.h5"):
        FeatureStore()
    with pytest.raises(InputError, match="holds features/a.h5"):
        Keep("fits")
    assert sorted(tmp_path.rglob("*")) == before


def test_no_link_is_followed(
    store: FeatureStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither of a kind, nor of a collection, nor of a shard, nor of a result, nor inside one."""
    mine = tmp_path / "mine"
    folder = store.collection(IDENTITY).folder
    (mine / ("a" * 64)).mkdir(parents=True)
    for path in (mine / "a.h5", mine / "b.h5.damaged", mine / ("a" * 64) / "card.json"):
        path.write_text("mine")
        _age(path, 400)
    _age(mine / ("a" * 64), 400)
    links = {
        store.root / "models": mine,
        store.features / ("b" * 64): mine,
        folder / "c.h5": mine / "a.h5",
        folder / "d.h5.damaged": mine / "b.h5.damaged",
        keep_one("fits", "e", days=400) / "extra": mine,
        store.root / "fits" / ("f" * 64): mine / ("a" * 64),
    }
    for link, target in links.items():
        link.symlink_to(target)
    before = [(path, path.lstat().st_ino) for path in sorted(mine.rglob("*"))]
    for arguments in (["info"], ["verify"], ["prune", "--older-than", "0", "--max-size", "0"]):
        assert cli.main(["cache", *arguments]) == 0
        told = capsys.readouterr().err
        assert all(f"{link}: a symbolic link" in told for link in links)
    assert [(path, path.lstat().st_ino) for path in sorted(mine.rglob("*"))] == before
    assert {path.read_text() for path in mine.rglob("*") if path.is_file()} == {"mine"}
    assert all(link.is_symlink() for link in links)
    assert _left(store) == []
    assert f"{folder / 'c.h5'}: a part of the feature store is damaged" in capsys.readouterr().err
    assert (folder / "c.h5").is_symlink()


def test_a_file_where_the_cache_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/below"):
        monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / place))
        for action in ("info", "verify", "compact", "prune"):
            assert cli.main(["cache", action]) == 1
            message = capsys.readouterr().err
            assert message.startswith(f"error: {tmp_path / place}: expected Headstart's cache")
            assert message.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("size", "expected"),
    [("10", 10), ("1kB", 1000), ("1.5 GiB", 3 * 2**29), ("2g", 2 * 10**9), ("0", 0)],
)
def test_sizes(size: str, expected: int) -> None:
    parsed = cli.build_parser(["cache"]).parse_args(["cache", "prune", "--max-size", size])
    assert parsed.max_size == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-size", "much"], "expected a size such as 500MB, 2GB or 1.5GiB, received 'much'"),
        (["--max-size", "-1"], "expected (a size|one argument)"),
        (["--older-than", "old"], "expected a number of days, received 'old'"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["cache", "prune", *arguments])
    assert caught.value.code == 2
    assert re.search(message, capsys.readouterr().err)
