"""Photos as people really hand them over, through `dvc repro prepare`."""

import csv
import io
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import Project

pytestmark = pytest.mark.slow

PER_CLASS = 6


def paint(path: Path, seed: int, kind: str = "JPEG") -> None:
    """Write a picture that resembles no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(coarse).resize((96, 72), Image.Resampling.BICUBIC).save(path, kind)


@pytest.fixture(scope="module")
def project(make_project: Callable[[str], Project]) -> Project:
    return make_project("photos")


@pytest.fixture
def photos(project: Project) -> Path:
    """Two classes of six."""
    folder = project.root / "photos"
    shutil.rmtree(folder, ignore_errors=True)
    for number in range(2 * PER_CLASS):
        paint(folder / ("cat", "dog")[number % 2] / f"{number:02}.jpg", number)
    return folder


def prepare(project: Project, source: object, *, fails: bool = False, **options: object) -> str:
    """Run the stage and return what was printed."""
    project.edit(prepare={**DEFAULTS, "source": str(source), **options})
    done = project.run("dvc", "repro", "prepare", check=not fails)
    assert (done.returncode != 0) == fails, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


DEFAULTS = {
    "validation": 0.2,
    "test": 0.2,
    "seed": 0,
    "max_unreadable": 0.05,
    "near_duplicates": "together",
    "corrections": None,
    "correct": "all",
}


def rows(project: Project, name: str = "manifest") -> list[dict[str, str]]:
    with (project.root / "data" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_splits_by_any_of_their_names_or_a_word(project: Project, photos: Path) -> None:
    seed = 100
    for split, count in (("TRAIN", 3), ("valid", 2), ("Testing", 1)):
        for name in ("cat", "dog"):
            for number in range(count):
                seed += 1
                paint(photos.parent / "split" / split / name / f"{number}.jpg", seed)
    prepare(project, "split")
    assert {row["label"] for row in rows(project)} == {"cat", "dog"}
    splits = [row["split"] for row in rows(project)]
    assert {split: splits.count(split) for split in set(splits)} == {
        "train": 6,
        "validation": 4,
        "test": 2,
    }
    (photos.parent / "split" / "logs").mkdir()
    printed = prepare(project, "split", fails=True)
    assert "TRAIN, Testing, valid look like splits" in printed
    assert "but logs beside them is none" in printed
    shutil.rmtree(photos.parent / "split")


def test_a_row_of_a_table_that_names_no_file_counts_as_unreadable(
    project: Project, photos: Path
) -> None:
    names = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.jpg"))]
    lines = [f"{name},{name.split('/')[0]}" for name in names]
    lines += ["gone,cat", "gone.txt,dog", "also/gone.jpg,dog"]
    (photos / "table.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    printed = prepare(project, "photos/table.csv", fails=True)
    assert "prepare.max_unreadable: 3 of 15 images cannot be read" in printed
    assert "photos/gone: no such file" in printed
    prepare(project, "photos/table.csv", max_unreadable=0.2)
    told = [(row["path"], row["reason"]) for row in rows(project, "quarantine")]
    assert told == [
        (f"photos/{name}", "no such file") for name in ("also/gone.jpg", "gone", "gone.txt")
    ]
    assert len(rows(project)) + len(told) == len(lines)


def test_a_photo_that_changed_is_noticed_wherever_it_lies(project: Project, photos: Path) -> None:
    """Behind a table, below a link, with the old size and the old time."""
    elsewhere = photos.parent / "elsewhere"
    (photos / "cat").rename(elsewhere)
    (photos / "cat").symlink_to(elsewhere)
    names = [f"{name}/{path.name}" for name in ("cat", "dog") for path in (photos / name).iterdir()]
    lines = "".join(f"{name},{name.split('/')[0]}\n" for name in sorted(names))
    (photos / "table.csv").write_text(f"path,label\n{lines}")
    changed = elsewhere / "00.jpg"
    for seed, source in enumerate(("photos", "photos/table.csv")):
        prepare(project, source)
        before = {row["path"]: row["sha256"] for row in rows(project)}
        assert len(before) == 2 * PER_CLASS
        status, size = changed.stat(), changed.stat().st_size
        paint(changed, 1000 + seed)
        changed.write_bytes(changed.read_bytes()[:size].ljust(size, b"\0"))
        os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
        prepare(project, source, max_unreadable=0.5)
        after = {row["path"]: row["sha256"] for row in rows(project)}
        assert before["photos/cat/00.jpg"] != after.get("photos/cat/00.jpg")
        assert {**after, "photos/cat/00.jpg": ""} == {**before, "photos/cat/00.jpg": ""}
        paint(changed, 0)
    shutil.rmtree(elsewhere)


def test_what_is_no_ordinary_file_is_told_and_hangs_nothing(project: Project, photos: Path) -> None:
    os.mkfifo(photos / "cat" / "pipe.jpg")
    (photos / "cat" / "self.jpg").symlink_to("self.jpg")
    (photos / "cat" / "broken").symlink_to("nowhere")
    (photos / "dog" / "circle").symlink_to(photos / "dog")
    latin = os.fsencode(photos / "dog") + b"/caf\xe9.jpg"
    shutil.copyfile(photos / "dog" / "01.jpg", latin)
    shutil.copyfile(photos / "dog" / "01.jpg", photos / "dog" / "no ending")
    for name in ("phone.heic", "camera.NEF"):
        (photos / "dog" / name).write_bytes(b"x" * 100)
    (photos / "dog" / "@eaDir").mkdir()
    prepare(project, "photos", max_unreadable=0.5)
    reasons = {
        row["path"].removeprefix("photos/"): row["reason"] for row in rows(project, "quarantine")
    }
    assert reasons["cat/pipe.jpg"] == "not an ordinary file"
    assert "cat/self.jpg" in reasons
    assert reasons["cat/broken"] == "broken link to nowhere"
    assert reasons["dog/caf\\xe9.jpg"] == "file name is not UTF-8; rename it"
    assert "HEIC" in reasons["dog/phone.heic"] or "no image" in reasons["dog/phone.heic"]
    assert "camera raw" in reasons["dog/camera.NEF"]
    assert len(reasons) == 6
    assert "photos/dog/no ending" in {row["path"] for row in rows(project)}
    assert len(rows(project)) == 2 * PER_CLASS + 1


def test_damage_and_dark_files_are_told(project: Project, photos: Path) -> None:
    """What decoders fill in with gray, and 12 bits in a file of 16."""
    good = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(good, "JPEG", quality=90)
    data = good.getvalue()
    half = len(data) // 2
    damaged = {
        "closed.jpg": data[:half] + b"\xff\xd9",
        "tail.jpg": data[:half].ljust(len(data), b"\0"),
        "middle.jpg": data[:half] + bytes(2000) + data[half + 2000 :],
        "closed_tail.jpg": data[:half].ljust(len(data) - 2, b"\0") + b"\xff\xd9",
    }
    progressive = io.BytesIO()
    Image.fromarray(noise).save(progressive, "JPEG", quality=90, progressive=True)
    damaged["progressive.jpg"] = progressive.getvalue()[: len(progressive.getvalue()) * 3 // 4]
    for name, content in damaged.items():
        (photos / "cat" / name).write_bytes(content)
    deep = np.random.default_rng(1).integers(0, 4096, (30, 30)).astype(np.uint16)
    Image.fromarray(deep).save(photos / "dog" / "dark.tif")
    printed = prepare(project, "photos", max_unreadable=0.5)
    assert {row["path"].removeprefix("photos/cat/") for row in rows(project, "quarantine")} == set(
        damaged
    )
    assert all(row["reason"].startswith("damaged JPEG") for row in rows(project, "quarantine"))
    assert "Corrupt JPEG" not in printed.replace("damaged JPEG: Corrupt JPEG", "")
    assert "16 bits, but no value above 4,095" in printed
    assert "photos/dog/dark.tif" in printed
    # What prepare refuses predict refuses; that it comes so far needs no model.
    for name in damaged:
        told = project.run("headstart", "augment", f"photos/cat/{name}", check=False)
        assert told.returncode == 1
        assert "damaged JPEG" in told.stdout


def test_a_source_that_is_not_there_or_at_home(project: Project, photos: Path) -> None:
    printed = prepare(project, "nowhere", fails=True)
    assert f"prepare.source: nowhere does not exist (looked for {project.root}/nowhere)" in printed
    project.environment["HOME"], home = str(project.root), project.environment.get("HOME", "")
    try:
        prepare(project, "~/photos")
    finally:
        project.environment["HOME"] = home
    assert {Path(row["path"]).parent.parent for row in rows(project)} == {photos}


def test_nothing_is_read_again_while_nothing_has_changed(project: Project, photos: Path) -> None:
    old = [path for path in photos.rglob("*") if path.is_file()]
    prepare(project, "photos")
    before = (project.root / "data/manifest.csv").read_bytes()
    # Not before a write would show in a file's times.
    time.sleep(2.1)
    prepare(project, "photos")

    def imported() -> str:
        return project.run("python", "-X", "importtime", "-m", "pipeline.prepare").stdout

    assert "cv2" not in imported()
    assert (project.root / "data/manifest.csv").read_bytes() == before
    old[0].unlink()
    assert "cv2" in imported()
    assert len(rows(project)) == len(old) - 1


def test_names_that_a_person_may_have_meant_for_one_are_hinted_at(
    project: Project, photos: Path
) -> None:
    (photos / "dog").rename(photos / "CAT")
    assert "'CAT' and 'cat' are different classes; if they are one" in prepare(project, "photos")
