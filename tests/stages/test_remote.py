"""Photos in an object store and on web servers give what the same photos give on this machine."""

import csv
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.parse import quote

import h5py
import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from headstart import BottleneckFeatures
from headstart.common import read_ahead, remote
from headstart.common.errors import InputError
from headstart.dataset import inspecting
from headstart.dataset import photos as photos_module
from headstart.dataset.manifest import ManifestRow, read_manifest
from pipeline import extract, prepare
from tests.conftest import ROOT
from tests.object_store import BUCKET, Store, environment, forget, object_store
from tests.unit.dataset.test_tar_shards import pack


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    with object_store() as store:
        yield store


@pytest.fixture
def store(server: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    forget(monkeypatch)
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    server.requests.clear()
    server.failing, server.status = 0.0, 503
    monkeypatch.setattr(remote, "_FIRST_WAIT", 0.01)
    return server


@pytest.fixture(scope="module")
def photos(server: Store, photo_folder: Path) -> str:
    return server.put_folder(photo_folder, "plain")


Run = Callable[..., list[ManifestRow]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run prepare, in a project and with a cache of its own; return the table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    params["extract"] |= {"backbone": "LeNet5", "weights": "random", "seed": 3}

    def run(source: str | list[str], **options: object) -> list[ManifestRow]:
        params["prepare"] |= {"source": source, **options}
        YAML().dump(params, Path("params.yaml"))
        prepare.main()
        return list(read_manifest(Path("data/manifest.csv")))

    return run


def features() -> tuple[np.ndarray, list[str]]:
    extract.main()
    with h5py.File("features/bottleneck.h5") as file:
        return file["features"][:], file["sha256"].asstr()[:].tolist()


def without_path(rows: list[ManifestRow]) -> list[tuple]:
    return sorted(row[1:] for row in rows)


def test_a_folder_gives_what_it_gives_here(
    run: Run, store: Store, photos: str, photo_folder: Path
) -> None:
    here = run(str(photo_folder))
    vectors, order = features()
    shutil.rmtree("cache")

    there = run(photos)
    assert without_path(there) == without_path(here)
    assert {row.path for row in there} == {
        f"{photos}/{path.relative_to(photo_folder).as_posix()}"
        for path in photo_folder.rglob("*.jpg")
    }
    assert store.requests == {"LIST": 1, "GET": 40}
    again, other_order = features()
    place = {digest: number for number, digest in enumerate(other_order)}
    assert [again[place[digest]].tobytes() for digest in order] == [
        vector.tobytes() for vector in vectors
    ]
    # Views on the contact sheet are drawn from photos; here there are six.
    assert store.requests["GET"] == 2 * 40 + 6


def test_the_second_run_reads_no_photo(
    run: Run, store: Store, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(photos)
    store.requests.clear()
    forget(monkeypatch)
    assert run(photos) == first
    assert store.requests == {"LIST": 1}
    # Nor where the table must be made anew.
    assert [row.sha256 for row in run(photos, seed=1)] == [row.sha256 for row in first]
    assert store.requests == {"LIST": 2}


def test_what_changes_is_seen(
    run: Run, store: Store, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = store.put_folder(photo_folder, "changing")
    before = {row.path: row.sha256 for row in run(url)}
    pixels = np.asarray(Image.open(photo_folder / "warm/00.jpg"))[::-1]
    Image.fromarray(pixels).save("new.jpg", quality=92)
    store.put("changing/warm/00.jpg", Path("new.jpg").read_bytes())
    store.put("changing/warm/new.jpg", Path("new.jpg").read_bytes())
    store.requests.clear()
    forget(monkeypatch)
    after = {row.path: row.sha256 for row in run(url)}
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed == {f"{url}/warm/00.jpg", f"{url}/warm/new.jpg"}
    assert store.requests == {"LIST": 1, "GET": 2}


def test_extract_refuses_what_has_changed_since(run: Run, store: Store, photo_folder: Path) -> None:
    url = store.put_folder(photo_folder, "stale")
    run(url)
    store.put("stale/warm/00.jpg", (photo_folder / "cold/00.jpg").read_bytes())
    with pytest.raises(InputError, match="s3://photos/stale/warm/00.jpg: the file has changed"):
        extract.main()


def test_layouts_are_those_of_folders(run: Run, store: Store, photo_folder: Path) -> None:
    for split, numbers in (("train", range(12)), ("val", range(12, 16)), ("test", range(16, 20))):
        for label in ("warm", "cold"):
            for number in numbers:
                data = (photo_folder / label / f"{number:02}.jpg").read_bytes()
                store.put(f"split/{split}/{label}/{number:02}.jpg", data)
    store.put("split/.hidden/x.jpg", b"no photo")
    store.put("split/train/warm/Thumbs.db", b"no photo")
    store.put("split/train/none/", b"")
    rows = run(f"s3://{BUCKET}/split")
    assert {row.path.split("/")[4]: row.split for row in rows} == {
        "train": "train",
        "val": "validation",
        "test": "test",
    }
    assert len(rows) == 40
    assert Path("metrics/data.json").read_text().count('"empty_classes": 1') == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"s3://{BUCKET}/nowhere", "does not exist: its store holds no name that begins so"),
        ("s3://no-such-bucket/x", "s3://no-such-bucket/x/: no such file; check the name"),
        (f"s3://{BUCKET}/flat", "s3://photos/flat is 1 file but no sub-folder"),
        ("s3://me:secret@bucket/x", "prepare.source: a s3:// URL holds a password"),
        ("s3://", "prepare.source: expected a URL such as s3://bucket/folder, received 's3://'"),
        ("ftp://host/x", "expected a URL that begins with one of s3://.*received ftp://"),
        ("file:///photos", "name the file by its path"),
        ("http://127.0.0.1:9/photos", "a web server lists no files"),
    ],
)
def test_sources_that_cannot_be_used(run: Run, store: Store, url: str, message: str) -> None:
    store.put("flat/x.jpg", b"x")
    with pytest.raises(InputError, match=message) as caught:
        run(url)
    assert "secret" not in str(caught.value)


@pytest.fixture
def web(photo_folder: Path) -> Iterator[str]:
    """A web server that tells when its files were written, but no tag of them."""
    handler = partial(_Quiet, directory=photo_folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    asked: ClassVar[Counter[str]] = Counter()

    def log_request(self, *_: object) -> None:
        self.asked[self.command] += 1


def test_tables_name_urls(
    run: Run, store: Store, photos: str, photo_folder: Path, web: str
) -> None:
    rows = [
        (path, label, "train" if number < 12 else "val" if number < 16 else "test", f"day {number}")
        for label in ("warm", "cold")
        for number in range(20)
        for path in [f"{label}/{number:02}.jpg"]
    ]
    # On this machine, with URLs of a store and of a web server and a path beside the table.
    shutil.copy(photo_folder / "warm/00.jpg", "mine.jpg")
    places = [
        "mine.jpg"
        if path == "warm/00.jpg"
        else f"{web}/{path}"
        if path.startswith("warm")
        else f"{photos}/{path}"
        for path, *_ in rows
    ]
    with Path("list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split", "day"))
        writer.writerows((place, *row[1:]) for place, row in zip(places, rows, strict=True))
    here = run("list.csv")
    assert sorted(row.path for row in here) == sorted(places)
    assert {row.columns[0] for row in here} == {f"day {number}" for number in range(20)}
    store.requests.clear()
    _Quiet.asked.clear()
    assert without_path(run("list.csv", max_unreadable=0.5)) == without_path(here)
    # What each is like now, and nothing is read again.
    assert (store.requests, _Quiet.asked) == ({"HEAD": 20}, {"HEAD": 19})

    # The same table in the store, beside its photos.
    lines = ["path,label,split,day", *(",".join(row) for row in rows)]
    text = "\n".join(lines).replace("\nwarm/", "\nplain/warm/").replace("\ncold/", "\nplain/cold/")
    store.put("plain.csv", text.encode())
    there = run(f"s3://{BUCKET}/plain.csv")
    assert without_path(there) == without_path(here)
    assert {row.path for row in there} == {f"{photos}/{path}" for path, *_ in rows}


def test_sources_of_both_kinds_together(run: Run, store: Store, photo_folder: Path) -> None:
    url = store.put_folder(photo_folder / "warm", "mixed/warm")
    shutil.copytree(photo_folder / "cold", "mine/cold")
    rows = run([url.removesuffix("/warm"), "mine"])
    assert {(row.label, row.path.startswith("s3://")) for row in rows} == {
        ("warm", True),
        ("cold", False),
    }


@pytest.mark.parametrize("failing", [0.02, 0.1])
def test_failing_requests_are_made_again(
    run: Run, store: Store, photos: str, failing: float, capfd: pytest.CaptureFixture[str]
) -> None:
    store.failing = failing
    rows = run(photos)
    assert len(rows) == 40
    assert capfd.readouterr().err == ""
    extract.main()
    assert store.requests["GET"] >= 86 + (failing > 0.05)


def test_a_store_that_does_not_answer_ends_the_run(run: Run, store: Store, photos: str) -> None:
    store.failing = 1.0
    with pytest.raises(InputError, match=r"s3://photos/plain/: no answer in 6 attempts \("):
        run(photos)
    assert store.requests == {"LIST": remote.ATTEMPTS}


def test_forbidden_is_told_at_once(run: Run, store: Store, photos: str) -> None:
    store.failing, store.status = 1.0, 403
    with pytest.raises(InputError, match="s3://photos/plain/: no permission; let these credential"):
        run(photos)
    assert store.requests == {"LIST": 1}


def test_without_credentials(
    run: Run, store: Store, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InputError, match="no credentials for s3://.*AWS_ACCESS_KEY_ID"):
        run(photos)


def test_a_missing_package_is_named(
    run: Run, store: Store, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(InputError, match=r"s3:// needs.*pip install 'headstart\[s3\]'"):
        run(photos)
    with pytest.raises(InputError, match=r"gs:// needs.*pip install 'headstart\[gcs\]'"):
        run("gs://bucket/photos")


def test_photos_that_are_gone_or_forbidden_are_left_out(
    run: Run, store: Store, photos: str
) -> None:
    lines = [
        f"{photos}/{label}/{number:02}.jpg,{label}"
        for label in ("warm", "cold")
        for number in range(20)
    ]
    lines.append(f"{photos}/warm/none.jpg,warm")
    Path("list.csv").write_text("\n".join(["path,label", *lines]))
    assert len(run("list.csv")) == 40
    assert Path("data/quarantine.csv").read_text().splitlines()[1] == (
        f"{photos}/warm/none.jpg,no such file"
    )


def test_what_is_too_large_is_not_read(
    run: Run, store: Store, photos: str, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = sorted(path.stat().st_size for path in photo_folder.rglob("*.jpg"))
    for module in (photos_module, inspecting):
        monkeypatch.setattr(module, "MAX_BYTES", sizes[-2])
    assert len(run(photos)) == 39
    assert store.requests == {"LIST": 1, "GET": 39}
    (line,) = Path("data/quarantine.csv").read_text().splitlines()[1:]
    assert f"{sizes[-1]:,} bytes; at most {sizes[-2]:,} are read" in line


def test_odd_names(run: Run, store: Store, photo_folder: Path) -> None:
    data = (photo_folder / "warm/00.jpg").read_bytes()
    names = {"a b+c", "사진", "50%25", "#1?", "it's"}
    for name in names:
        store.put(f"odd/warm/{quote(name)}.jpg", data + name.encode())
    store.put("odd/cold/x.jpg", (photo_folder / "cold/00.jpg").read_bytes())
    rows = run(f"s3://{BUCKET}/odd", near_duplicates="keep", validation=0)
    assert {row.path for row in rows if row.label == "warm"} == {
        f"s3://{BUCKET}/odd/warm/{name}.jpg" for name in names
    }


def test_features_of_urls_from_python(store: Store, photos: str, photo_folder: Path) -> None:
    model = BottleneckFeatures(backbone="LeNet5", weights="random")
    there = model.transform([f"{photos}/warm/00.jpg", f"{photos}/cold/01.jpg"])
    here = model.transform([photo_folder / "warm/00.jpg", photo_folder / "cold/01.jpg"])
    assert np.array_equal(there, here)
    with pytest.raises(InputError, match="images: a s3:// URL holds a password"):
        model.transform(["s3://a:b@bucket/x.jpg"])


def test_reading_ahead_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "MOST_FILES", 4)
    begun: list[str] = []

    def read(path: str) -> bytes:
        begun.append(path)
        return path.encode()

    paths = [f"memory://a/{number}" for number in range(20)]
    with read_ahead.reading_ahead(read) as want:
        want([*paths, "here.jpg"])
        assert read_ahead.remote_bytes(paths[9], read) == paths[9].encode()
        assert set(begun) <= {*paths[:5], paths[9]}
        assert [read_ahead.remote_bytes(path, read) for path in paths] == [
            path.encode() for path in paths
        ]
    assert "here.jpg" not in begun
    # Each was read once, and what was read by hand a second time.
    assert sorted(begun) == sorted([*paths, paths[9]])


def test_tars_here_and_there(run: Run, store: Store, photo_folder: Path) -> None:
    shards: dict[str, dict[str, bytes | str]] = {"0": {}, "1": {}}
    for number, path in enumerate(sorted(photo_folder.rglob("*.jpg"))):
        name = f"{number:03}"
        shards[str(number % 2)] |= {
            f"{name}.jpg": path.read_bytes(),
            f"{name}.cls": path.parent.name,
            f"{name}.json": f'{{"camera": {number % 3}}}',
        }
    for name, members in shards.items():
        pack(Path(f"{name}.tar"), members)
        store.put(f"tars/{name}.tar", Path(f"{name}.tar").read_bytes())
    here = run("{0..1}.tar")
    vectors, order = features()
    shutil.rmtree("cache")
    there = run(f"s3://{BUCKET}/tars/{{0..1}}.tar")
    assert without_path(there) == without_path(here)
    assert {row.path for row in there} == {f"s3://{BUCKET}/tars/{row.path}" for row in here}
    assert (len(there), {row.columns for row in there}) == (40, {("0",), ("1",), ("2",)})
    again, other_order = features()
    assert other_order == order
    assert again.tobytes() == vectors.tobytes()
    # The headers of a tar come in one block, of which this one has but one; then photo by photo.
    assert store.requests["GET"] == 2 + 2 * 40 + 6
    store.requests.clear()
    assert without_path(run(f"s3://{BUCKET}/tars/{{0..1}}.tar", seed=1)) != without_path(there)
    assert store.requests["GET"] == 0
