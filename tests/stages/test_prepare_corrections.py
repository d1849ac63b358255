"""Corrections change labels and what is left out; they move no image to another split."""

import csv
import json
import shutil
from collections.abc import Callable, Iterable
from contextlib import chdir
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.common import places
from headstart.common.errors import InputError
from headstart.common.files import sha256_of
from headstart.dataset.manifest import Manifest, ManifestRow, read_manifest
from headstart.dataset.options import PrepareOptions
from pipeline import prepare

Decision = tuple[str, str, str, str]
FILE = "corrections.csv"


@pytest.fixture
def photos(tmp_path: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The two classes, 20 JPEGs each, in a folder where a stage can run."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(photo_folder, tmp_path / "photos"))


def run(decisions: Iterable[Decision] | None = None, **options: object) -> Manifest:
    if decisions is not None:
        with Path(FILE).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("sha256", "action", "label", "note"), *decisions])
        options["corrections"] = FILE
    content = {
        "source": "photos",
        "validation": 0.2,
        "test": 0.2,
        "seed": 0,
        "max_unreadable": 0.05,
        "near_duplicates": "together",
        "corrections": None,
        "correct": "all",
    }
    prepare.run(PrepareOptions.model_validate(content | options))
    return read_manifest(places.MANIFEST)


def of(manifest: Manifest, split: str, label: str) -> list[ManifestRow]:
    return [row for row in manifest if (row.split, row.label) == (split, label)]


def rejected() -> dict[str, str]:
    with places.QUARANTINE.open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


def metrics() -> dict:
    return json.loads(places.DATA_METRICS.read_text())


def test_each_action_is_carried_out_and_told(photos, capsys):
    before = run()
    keep, relabel, drop = of(before, "train", "warm")[:3]
    tested = of(before, "test", "warm")[0]
    after = run(
        [
            (keep.sha256, "keep", "", ""),
            (relabel.sha256, "relabel", "cold", "blue"),
            (drop.sha256, "drop", "", "blurred"),
            (tested.sha256, "drop", "", ""),
            ("0" * 64, "drop", "", ""),
        ]
    )
    rows = {row.path: row for row in after}
    assert rows[keep.path] == keep._replace(correction="keep")
    assert rows[relabel.path] == relabel._replace(
        label="cold", correction="relabel", given_label="warm"
    )
    assert rows[tested.path] == tested._replace(split="dropped")
    assert drop.path not in rows
    assert rejected() == {drop.path: "dropped by corrections.csv: blurred"}
    assert metrics()["corrections"] == {"kept": 1, "relabelled": 1, "dropped": 2, "unused": 1}
    assert metrics()["images"] == len(after.in_use) == 38
    assert metrics()["split"] == {"train": 23, "validation": 8, "test": 7}
    assert metrics()["class"]["cold"]["train"] == 13
    told = capsys.readouterr().err
    assert "warning: 1 of 5 corrections of corrections.csv fit no image of photos" in told
    assert "line 6 (drop, 000000000000...)" in told
    assert places.CORRECTIONS.read_text() == Path(FILE).read_text().replace("\r", "")


def test_a_correction_goes_with_the_content_of_a_file_wherever_it_lies(photos):
    before = run()
    first = of(before, "train", "warm")[0]
    decisions = [(first.sha256, "relabel", "cold", "")]
    shutil.copyfile(first.path, photos / "cold" / "copy.jpg")
    Path(first.path).rename(photos / "warm" / "moved.jpg")
    rows = {row.path: row for row in run(decisions)}
    assert rows["photos/warm/moved.jpg"].given_label == "warm"
    assert rows["photos/warm/moved.jpg"].label == "cold"
    assert rows["photos/cold/copy.jpg"].correction == "keep"
    assert metrics()["conflicting_labels"] == 0


def test_a_conflict_that_somebody_has_looked_at_is_told_no_more(photos, capsys):
    shutil.copyfile(photos / "warm" / "00.jpg", photos / "cold" / "copy.jpg")
    digest = next(row.sha256 for row in run() if row.path == "photos/cold/copy.jpg")
    assert metrics()["conflicting_labels"] == 1
    capsys.readouterr()
    run([(digest, "keep", "", "")])
    assert metrics()["conflicting_labels"] == 0
    assert "another label" not in capsys.readouterr().err


def test_an_unchanged_run_is_taken_over_and_an_edit_of_the_table_is_not(photos, monkeypatch):
    digest = of(run(), "train", "warm")[0].sha256
    decisions = [(digest, "relabel", "cold", "")]
    # As if the photos had lain there for a while.
    monkeypatch.setattr("headstart.dataset.file_states._STEP_NS", -(10**12))
    run(decisions)
    written = places.MANIFEST.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headstart.dataset.preparation.check_and_split", None)
        run(decisions)
    assert places.MANIFEST.read_bytes() == written
    assert {row.correction for row in run([(digest, "keep", "", "")])} == {"", "keep"}


def test_a_loose_photo_comes_in_by_its_correction_and_moves_no_other(photos, photo, capsys):
    for number in range(6):
        Image.fromarray(photo(900 + number, 96, 128)).save(photos / f"new {number}.png")
    before = run(max_unreadable=0.2)
    assert rejected() == {f"photos/new {number}.png": "in no class folder" for number in range(6)}
    digests = digests_of(photos.glob("new *.png"))
    after = run([(digest, "relabel", "warm", "") for digest in digests[:5]], max_unreadable=0.2)
    assert rejected() == {"photos/new 5.png": "in no class folder"}
    new = [row for row in after if row.path.startswith("photos/new")]
    assert {(row.label, row.correction, row.source_label) for row in new} == {
        ("warm", "relabel", "")
    }
    assert [row for row in after if row not in new] == list(before)
    # Its own split does not hang on the others that come in.
    alone = run([(new[0].sha256, "relabel", "warm", "")], max_unreadable=0.2)
    assert new[0] in list(alone)


def digests_of(paths: Iterable[Path]) -> list[str]:
    return [sha256_of(path) for path in sorted(paths)]


def test_a_loose_copy_of_a_photo_goes_where_that_is(photos):
    before = run()
    tested = of(before, "test", "warm")[0]
    with Image.open(tested.path) as image:
        image.save(photos / "copy.png")
    (digest,) = digests_of([photos / "copy.png"])
    rows = {row.path: row for row in run([(digest, "relabel", "warm", "")])}
    assert rows["photos/copy.png"].split == "test"
    assert rows["photos/copy.png"].group == rows[tested.path].group != ""


def test_only_test_images_where_params_say_so(photos):
    before = run()
    chosen = [of(before, split, "warm")[0] for split in ("train", "validation", "test")]
    decisions = [(row.sha256, "relabel", "cold", "") for row in chosen]
    after = {row.path: row for row in run(decisions, correct="test")}
    assert [after[row.path].label for row in chosen] == ["warm", "warm", "cold"]
    assert metrics()["corrections"]["relabelled"] == 1
    assert metrics()["corrections"]["unused"] == 0


def test_near_duplicates_that_got_one_label_are_dropped(photos):
    with Image.open(photos / "warm" / "00.jpg") as image:
        image.save(photos / "cold" / "copy.png")
    before = run(near_duplicates="drop")
    assert len(before) == 41
    (digest,) = digests_of([photos / "cold" / "copy.png"])
    after = run([(digest, "relabel", "warm", "")], near_duplicates="drop")
    assert rejected() == {"photos/warm/00.jpg": "near duplicate of photos/cold/copy.png"}
    assert len(after) == 40
    assert metrics()["dropped"] == 1


def test_a_class_may_go_and_another_may_come(photos):
    before = run()
    cold = [row for row in before if row.label == "cold"]
    left = of(before, "test", "cold")[0]
    decisions = [(row.sha256, "relabel", "blue", "") for row in cold if row != left]
    after = run([*decisions, (left.sha256, "drop", "", "")])
    assert after.class_names == ("blue", "warm")
    # Nothing could be said of it, for no model knows its class.
    assert left.path not in {row.path for row in after}
    assert rejected() == {left.path: "dropped by corrections.csv"}


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (
            lambda rows: [(of(rows, "test", "warm")[0].sha256, "relabel", "red", "")],
            r"class 'red' has no training image.* all of its 1 images.* for test\.",
        ),
        (
            lambda rows: [(row.sha256, "relabel", "cold", "") for row in rows],
            r"photos, corrected by corrections.csv, has one class only \('cold', 40 images\)",
        ),
        (
            lambda rows: [(row.sha256, "drop", "", "") for row in rows],
            "photos, corrected by corrections.csv, has no class",
        ),
        (
            lambda rows: [(rows.rows[0].sha256, "keep", "warm", "")],
            r"line 2: keeps the label 'warm' of photos/cold/00\.jpg",
        ),
    ],
)
def test_corrections_that_leave_nothing_to_learn(
    photos: Path, choose: Callable[[Manifest], list[Decision]], message: str
) -> None:
    decisions = choose(run())
    with pytest.raises(InputError, match=message):
        run(decisions)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(
    data=st.data(),
    near_duplicates=st.sampled_from(["keep", "together", "drop"]),
    correct=st.sampled_from(["all", "test"]),
)
def test_no_correction_moves_an_image(
    elsewhere: Path,
    photo_folder: Path,
    data: st.DataObject,
    near_duplicates: str,
    correct: str,
) -> None:
    options = {"source": str(photo_folder), "near_duplicates": near_duplicates}
    with chdir(elsewhere):
        before = {row.path: row for row in run(**options)}
        actions = [("keep", ""), ("drop", ""), ("relabel", "cold"), ("relabel", "warm")]
        digests = sorted(row.sha256 for row in before.values())
        chosen = data.draw(
            st.dictionaries(st.sampled_from(digests), st.sampled_from(actions), max_size=8)
        )
        decisions = [(digest, *decision, "") for digest, decision in chosen.items()]
        after = run(decisions, correct=correct, **options)
    for row in after:
        assert row.source_split == before[row.path].split
        assert row.source_label == before[row.path].label
        assert row.group == before[row.path].group
    gone = before.keys() - {row.path for row in after}
    assert all(chosen[before[path].sha256][0] == "drop" for path in gone)
    assert all(before[path].split != "test" for path in gone)
