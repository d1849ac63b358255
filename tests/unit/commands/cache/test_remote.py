"""`headstart cache push` and `pull`: two machines share what one of them has computed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from headstart.commands import cli
from headstart.commands.cache import remote as sharing
from headstart.common import remote
from headstart.common.errors import InputError
from headstart.extraction.compaction import compact
from headstart.extraction.store import FeatureStore
from tests.conftest import ROOT
from tests.object_store import BUCKET, Store, environment, forget, object_store
from tests.unit.extraction.test_store import IDENTITY, fill, keys_for

OTHER = replace(IDENTITY, layer="c3")


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    with object_store() as store:
        yield store


@pytest.fixture
def bucket(server: Store, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Store:
    forget(monkeypatch)
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    server.requests.clear()
    server.failing = 0.0
    monkeypatch.setattr(remote, "_FIRST_WAIT", 0.01)
    return server


@pytest.fixture
def mine(tmp_path: Path) -> FeatureStore:
    """A store with three shards of one extractor and one of another."""
    store = FeatureStore(tmp_path / "mine")
    for start, count in ((0, 4), (10, 5), (20, 6)):
        fill(store.collection(IDENTITY), start, count)
    fill(store.collection(OTHER), 0, 3)
    return store


@pytest.fixture
def yours(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "yours")


def run(store: FeatureStore, *words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("HEADSTART_CACHE", str(store.root))
    return cli.main(["cache", *words])


def shards(store: FeatureStore) -> dict[str, bytes]:
    return {
        path.relative_to(store.root).as_posix(): path.read_bytes()
        for path in store.features.rglob("*.h5")
    }


@pytest.mark.parametrize("kind", ["s3", "folder", "memory"])
def test_what_one_has_the_other_gets(
    bucket: Store,
    mine: FeatureStore,
    yours: FeatureStore,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = {
        "s3": f"s3://{BUCKET}/all",
        "folder": str(tmp_path / "shared"),
        "memory": f"memory://{tmp_path.name}",
    }[kind]
    assert run(mine, "push", "--all", url, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.startswith("4 shards pushed, ")
    assert run(mine, "push", "--all", url, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == "0 shards pushed, 0 B; 4 there already\n"
    if kind == "s3":
        assert bucket.requests == {"LIST": 2, "PUT": 4}

    fill(yours.collection(IDENTITY), 10, 5)
    fill(yours.collection(IDENTITY), 30, 2)
    assert run(yours, "pull", "--all", url, monkeypatch=monkeypatch) == 0
    assert "3 shards pulled, " in (said := capsys.readouterr().out)
    assert said.endswith("; 1 there already\n")
    assert shards(mine).items() <= shards(yours).items()
    assert yours.collection(IDENTITY).contains(keys_for(0, 4)).all()
    assert yours.collection(IDENTITY).contains(keys_for(30, 2)).all()
    assert run(yours, "verify", monkeypatch=monkeypatch) == 0


def test_only_the_extractor_of_the_project(
    bucket: Store,
    mine: FeatureStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    params["extract"] |= {"backbone": "LeNet5", "weights": "random", "seed": 3}
    YAML().dump(params, Path("params.yaml"))
    from headstart.commands.cache.command import _fingerprint

    folder = mine.features / _fingerprint()
    (mine.features / IDENTITY.fingerprint).rename(folder)
    assert run(mine, "push", f"s3://{BUCKET}/one", monkeypatch=monkeypatch) == 1
    # They are of another, so that they count as damaged: what matters is which were looked at.
    assert "0 shards pushed, 0 B; 0 there already; 3 left out" in capsys.readouterr().out


def test_damaged_shards_are_told_and_left_out(
    bucket: Store,
    mine: FeatureStore,
    yours: FeatureStore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = f"s3://{BUCKET}/damaged"
    assert run(mine, "push", "--all", url, monkeypatch=monkeypatch) == 0
    first, second, *_ = sorted(shards(mine))
    content = bytearray(shards(mine)[first])
    content[-1] ^= 1
    bucket.put(f"damaged/{first}", bytes(content))
    bucket.put(f"damaged/{second}", shards(mine)[second][:-5])
    bucket.put(f"damaged/features/{IDENTITY.fingerprint}/notes.txt", b"x")
    bucket.put(f"damaged/features/elsewhere/{'0' * 32}.h5", b"x")
    capsys.readouterr()
    assert run(yours, "pull", "--all", url, monkeypatch=monkeypatch) == 1
    said = capsys.readouterr()
    assert "2 shards pulled, " in said.out
    assert "2 left out, as told above" in said.out
    for name in (first, second):
        assert f"warning: {url}/{name}: this shard is damaged: " in said.err
    assert set(shards(yours)) == set(shards(mine)) - {first, second}

    # Nor are they pushed from here.
    path = mine.root / first
    path.write_bytes(bytes(content))
    bucket.requests.clear()
    assert run(mine, "push", "--all", f"{url}-2", monkeypatch=monkeypatch) == 1
    assert f"warning: {path}: this shard is damaged" in capsys.readouterr().err
    assert bucket.requests["PUT"] == 3


def test_merged_shards_are_known_by_their_parts(
    mine: FeatureStore, yours: FeatureStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path / "shared")
    sharing.push(mine.root, place, None)
    sharing.pull(yours.root, place, None)
    for store in (mine, yours):
        compact(store.collection(IDENTITY).folder)
        assert len(store.collection(IDENTITY).shards) == 1
    assert sharing.push(mine.root, place, None)[:3] == (0, 0, 2)
    assert sharing.pull(yours.root, place, None)[:2] == (0, 0)
    fill(mine.collection(IDENTITY), 40, 2)
    compact(mine.collection(IDENTITY).folder)
    # A part of it is new there.
    assert sharing.push(mine.root, place, None).shards == 1
    assert sharing.pull(yours.root, place, None).shards == 1
    assert yours.collection(IDENTITY).contains(keys_for(40, 2)).all()


def test_failing_requests_are_made_again(
    bucket: Store, mine: FeatureStore, yours: FeatureStore, capfd: pytest.CaptureFixture[str]
) -> None:
    bucket.failing = 0.1
    url = f"s3://{BUCKET}/failing"
    assert sharing.push(mine.root, url, None).shards == 4
    assert sharing.pull(yours.root, url, None).shards == 4
    assert shards(yours) == shards(mine)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://host/x", "expected a place that lists its files"),
        ("s3://a:b@host/x", "holds a password"),
        ("s3://no-such-bucket/x", "no such file"),
    ],
)
def test_places_that_cannot_be_used(
    bucket: Store, mine: FeatureStore, url: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        sharing.push(mine.root, url, None)


def test_a_server_that_refuses_writing(bucket: Store, mine: FeatureStore) -> None:
    bucket.failing = 1.0
    with pytest.raises(InputError, match=r"no answer in 6 attempts \("):
        sharing.push(mine.root, f"s3://{BUCKET}/refused", None)
