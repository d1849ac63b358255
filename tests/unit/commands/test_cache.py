import json
import os
import re
import time
from pathlib import Path

import pytest

from headstart.commands import cli
from headstart.extraction.store import FeatureStore
from tests.unit.test_feature_store import IDENTITY, fill, keys_for

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


def test_info(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cache", "info"]) == 0
    text = capsys.readouterr().out
    assert "LeNet5 32 x 24" in text
    assert "openvino float32" in text
    assert "10 days ago" in text
    assert str(store.root) in text

    assert cli.main(["cache", "info", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    (extractor,) = content["extractors"]
    assert (extractor["vectors"], extractor["shards"]) == (15, 3)
    files = store.features.rglob("*.h5")
    assert extractor["bytes"] == content["bytes"] == sum(file.stat().st_size for file in files)


def test_info_of_an_empty_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "nothing"))
    assert cli.main(["cache", "info"]) == 0
    assert "0 B of features" in capsys.readouterr().out


def test_verify(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cache", "verify"]) == 0
    assert "15 vectors and 0 converted models are sound; 0 shards" in capsys.readouterr().out

    shard = max(store.collection(IDENTITY).shards.values(), key=len)
    data = bytearray(shard.path.read_bytes())
    data[shard.offset + 3] ^= 1
    shard.path.write_bytes(bytes(data))
    assert cli.main(["cache", "verify"]) == 1
    captured = capsys.readouterr()
    assert "9 vectors and 0 converted models are sound; 1 shards" in captured.out
    assert "the checksum of row 0 does not fit" in captured.err
    assert _left(store) == [4, 5]
    assert cli.main(["cache", "verify"]) == 0


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
    assert "1 files deleted" in capsys.readouterr().out
    assert cli.main(["cache", "prune", "--max-size", "0.1kB"]) == 0
    assert _left(store) == []
    assert not store.collection(IDENTITY).contains(keys_for(0, 4)).any()


def test_prune_alone_deletes_only_rubbish(store: FeatureStore) -> None:
    folder = store.collection(IDENTITY).folder
    damaged, left_over, being_written, foreign = (
        folder / name for name in ("a.h5.damaged", ".old-x.h5", ".new-y.h5", "notes.txt")
    )
    for path in (damaged, left_over, being_written, foreign):
        path.write_text("x")
    half_converted = store.models / ".tmp123"
    half_converted.mkdir(parents=True)
    for path in (left_over, half_converted, foreign):
        _age(path, 1)
    assert cli.main(["cache", "prune"]) == 0
    assert _left(store) == [4, 5, 6]
    assert being_written.exists()
    assert foreign.exists()
    assert not damaged.exists()
    assert not left_over.exists()
    assert not half_converted.exists()


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
