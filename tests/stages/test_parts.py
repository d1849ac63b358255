"""`headstart parts`: parts in any order, twice, at once and killed give the one run's bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from headstart.commands import cli
from headstart.common import places
from headstart.common.seal import write_sealed_json
from headstart.dataset.manifest import read_manifest
from headstart.extraction import parts
from headstart.extraction.store import FeatureStore
from pipeline import extract, prepare

ROOT = Path(__file__).parents[2]
PHOTOS = 120
# 72 training images of 120 have two views besides.
VECTORS = 264

# One that takes its time, and closes a shard after every 16 images.
_SLOWLY = """
import sys, time
from headstart.images import decoding
read = decoding.read_checked
def slowly(path, sha256):
    time.sleep(0.02)
    return read(path, sha256)
decoding.read_checked = slowly
from headstart.extraction import parts
parts.BLOCK = 16
from headstart.commands import cli
sys.exit(cli.main(["parts", "run", *sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small pictures of two classes."""
    root = tmp_path_factory.mktemp("parts-photos")
    for index in range(PHOTOS):
        noise = np.random.default_rng(index).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        folder = root / ("even", "odd")[index % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(noise).save(folder / f"{index:03}.png", compress_level=0)
    return root


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    photos: Path,
) -> Path:
    """A prepared project with an empty store, in the folder that becomes the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "store"))
    # Converted models are kept from test to test; features are not.
    models = tmp_path_factory.getbasetemp() / "parts-models"
    models.mkdir(exist_ok=True)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "models").symlink_to(models)
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["prepare"]["source"] = str(photos)
    params["extract"] |= {"backbone": "LeNet5", "weights": "random", "engine": "openvino"}
    params["extract"]["augment"]["views"] = 2
    _write(params)
    prepare.main()
    return tmp_path


def _write(params: dict) -> None:
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(params, file)


def _edit(**values: object) -> None:
    params = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))
    params["extract"] |= values
    _write(params)


def _expected(project: Path) -> bytes:
    """Return the feature file of one local run from an empty store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(project / "another"))
        (project / "another").mkdir()
        (project / "another" / "models").symlink_to((project / "store" / "models").readlink())
        extract.main()
    assert json.loads(places.EXTRACT_METRICS.read_text())["computed"] == VECTORS
    expected = places.FEATURES.read_bytes()
    places.FEATURES.unlink()
    return expected


def _start(part: int, code: str = _SLOWLY) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(part)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def _status(capsys: pytest.CaptureFixture[str]) -> dict:
    capsys.readouterr()
    assert cli.main(["parts", "status", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_parts_give_the_bytes_of_one_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = _expected(project)
    # Some images, without their views, are there already.
    _edit(share=0.2, augment={**_augment(), "views": 0})
    extract.main()
    there = json.loads(places.EXTRACT_METRICS.read_text())["computed"]
    _edit(share=1.0, augment={**_augment(), "views": 2})

    assert cli.main(["parts", "plan", "--count", "3"]) == 0
    before = _status(capsys)
    assert (before["stored"], before["lacking"]) == (there, VECTORS - there)
    assert before["remaining"] == [0, 1, 2]

    # One is killed once it has kept something, and goes on from there.
    killed = _start(2)
    patience = time.monotonic() + 60
    while (kept := _status(capsys)["by_part"][2]["stored"]) == before["by_part"][2]["stored"]:
        assert time.monotonic() < patience
    killed.send_signal(signal.SIGKILL)
    killed.wait(10)
    assert _status(capsys)["by_part"][2]["lacking"] > 0
    # The others in another order, one of them by two processes at once.
    twice = [_start(1), _start(1)]
    assert cli.main(["parts", "run", "2"]) == 0
    computed = int(capsys.readouterr().out.split(": ")[1].split()[0])
    assert computed <= before["by_part"][2]["lacking"] - (kept - before["by_part"][2]["stored"])
    assert [process.wait(60) for process in twice] == [0, 0]
    assert _status(capsys)["remaining"] == [0]
    assert cli.main(["parts", "run", "0"]) == 0
    assert cli.main(["parts", "run", "0"]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.startswith("part 0 of 3: 0 computed, ")
    assert _status(capsys)["remaining"] == []

    extract.main()
    assert json.loads(places.EXTRACT_METRICS.read_text())["computed"] == 0
    assert places.FEATURES.read_bytes() == expected


def _augment() -> dict:
    return YAML(typ="safe").load(Path("params.yaml").read_text())["extract"]["augment"]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 1000])
def test_parts_are_disjoint_and_everything(count: int) -> None:
    digests = [f"{index:064x}" for index in range(2000)]
    numbers = parts.part_of(digests, count)
    assert numbers.min() >= 0
    assert numbers.max() <= count - 1
    # Equal ranges of what is uniform: no part is far from its share.
    if count <= 7:
        assert np.abs(np.bincount(numbers, minlength=count) - 2000 / count).max() < 100
    assert (parts.part_of(digests[::-1], count)[::-1] == numbers).all()


def test_the_ends_of_ranges() -> None:
    edges = [0, 2**64 // 3, 2**64 // 3 + 1, 2**65 // 3, 2**65 // 3 + 1, 2**64 - 1]
    keys = np.array([list(edge.to_bytes(8, "big")) + [0] * 24 for edge in edges], np.uint8)
    assert parts._part_of_keys(keys, 3).tolist() == [0, 0, 1, 1, 2, 2]


def test_plan_and_status_tell_what_remains(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["parts", "plan", "--count", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"0 of {VECTORS} vectors" in lines[-2]
    assert lines[-1].startswith(f"{VECTORS} vectors remain, in 2 parts (0-1): `headstart parts run")
    rows = [line.split() for line in lines if line.split()[:1] in (["0"], ["1"])]
    assert sum(int(row[1]) for row in rows) == VECTORS
    for part in (0, 1):
        assert cli.main(["parts", "run", str(part)]) == 0
    assert cli.main(["parts", "status"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Nothing remains: `dvc repro` goes on"
    # Many parts are summarized, and the store serves any number of them.
    assert cli.main(["parts", "plan", "--count", "40"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("40 parts of ")


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert cli.main(["parts", *arguments]) == 1
    return capsys.readouterr().err


def test_a_plan_of_something_else_is_refused(
    project: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "features/parts.json: no such file: run `headstart parts plan" in _refused(
        capsys, "run", "0"
    )
    assert cli.main(["parts", "plan", "--count", "3"]) == 0
    told = _refused(capsys, "run", "3")
    assert "part: expected a number from 0 to 2, as planned, received 3" in told
    _edit(pooling="max")
    told = _refused(capsys, "run", "0")
    assert "(pooling max, planned avg); plan again: `headstart parts plan --count 3`" in told
    _edit(pooling="avg", augment={**_augment(), "rotation": 5.0})
    assert "augment.rotation 5.0, planned 10.0" in _refused(capsys, "status")
    _edit(augment={**_augment(), "rotation": 10.0})
    params = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))
    params["prepare"]["seed"] = 1
    _write(params)
    prepare.main()
    told = _refused(capsys, "run", "0")
    assert "of the images that data/manifest.csv lists now, received that of an earlier" in told
    write_sealed_json(places.PARTS, {"something": "else"})
    assert "expected a plan, received another file" in _refused(capsys, "status")


def test_an_unreadable_image_is_told_after_all_else_is_kept(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = read_manifest(places.MANIFEST)
    copies = project / "copies"
    for row in manifest:
        copy = copies / row.label / Path(row.path).name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(Path(row.path).read_bytes())
    params = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))
    params["prepare"]["source"] = str(copies)
    _write(params)
    prepare.main()
    manifest = read_manifest(places.MANIFEST)
    assert cli.main(["parts", "plan", "--count", "2"]) == 0
    numbers = parts.part_of([row.sha256 for row in manifest], 2)
    gone = [row for row, part in zip(manifest, numbers, strict=True) if part == 0][:2]
    for row in gone:
        Path(row.path).unlink()
    told = _refused(capsys, "run", "0")
    assert f"{gone[0].path}: the image could be read before, but not now: no such file" in told
    assert "(and 1 more images of this part)" in told
    lacking = sum(3 if row.split == "train" else 1 for row in gone)
    assert _status(capsys)["by_part"][0]["lacking"] == lacking
    assert cli.main(["parts", "run", "1"]) == 0


def test_an_image_that_is_back_again_is_computed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when a network's disk does not answer for a moment."""
    from headstart.images import decoding

    read: Callable[[str | Path], bytes] = decoding.read
    failed: set[str | Path] = set()

    def once_not(path: str | Path) -> bytes:
        if Path(path).name.startswith("00") and path not in failed:
            failed.add(path)
            raise decoding.UnreadableImage("cannot be read: the disk did not answer", lasting=False)
        return read(path)

    monkeypatch.setattr(decoding, "read", once_not)
    assert cli.main(["parts", "plan", "--count", "1"]) == 0
    assert cli.main(["parts", "run", "0"]) == 0
    assert len(failed) == 10
    assert f"part 0 of 1: {VECTORS} computed, 0 reused" in capsys.readouterr().out
    assert _status(capsys)["lacking"] == 0


def test_memory_holds_one_block_of_requests(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is computed block by block, with the engine of the first."""
    from headstart.extraction import engines

    loaded = []
    load = engines.load

    def counted(*arguments: object) -> object:
        loaded.append(arguments)
        return load(*arguments)

    monkeypatch.setattr(parts, "BLOCK", 32)
    monkeypatch.setattr(engines, "load", counted)
    asked = []
    one_pass = parts.extract

    def noted(bottleneck: object, requests: list, **options: object) -> object:
        asked.append(len(requests))
        return one_pass(bottleneck, requests, load=counted, **options)

    monkeypatch.setattr(parts, "extract", noted)
    assert cli.main(["parts", "plan", "--count", "1"]) == 0
    assert cli.main(["parts", "run", "0"]) == 0
    assert sum(asked) == VECTORS
    assert len(asked) == 4
    assert len(loaded) == 1
    assert len(FeatureStore().collection(loaded[0][0].taps[0])) == VECTORS
