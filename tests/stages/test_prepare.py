"""A folder of photos becomes a table of those that can be used; nothing is lost silently."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from headstart.common import places
from headstart.common.errors import InputError
from headstart.common.stage import run_stage
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.dataset.options import PrepareOptions
from pipeline import prepare

Prepare = Callable[..., Manifest]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    monkeypatch.chdir(tmp_path)

    def run(source: Path | str = "photos", **options: object) -> Manifest:
        content = {
            "source": str(source),
            "validation": 0.2,
            "test": 0.2,
            "seed": 0,
            "max_unreadable": 0.05,
            "near_duplicates": "together",
            "corrections": None,
            "correct": "all",
        }
        prepare.run(PrepareOptions.model_validate(content | options))
        return read_manifest(Path("data/manifest.csv"))

    return run


@pytest.fixture
def photos(tmp_path: Path, photo_folder: Path) -> Path:
    """An own copy of the two classes, 20 JPEGs each."""
    return Path(shutil.copytree(photo_folder, tmp_path / "photos"))


def table(name: str) -> list[dict[str, str]]:
    with Path("data", f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def metrics() -> dict:
    return json.loads(Path("metrics/data.json").read_text())


def test_every_image_gets_a_row_and_every_class_its_shares(run, photos):
    manifest = run()
    assert len(manifest) == 40
    assert manifest.class_names == ("cold", "warm")
    assert manifest.rows[0].path == "photos/cold/00.jpg"
    assert {(row.width, row.height, row.group) for row in manifest} == {(128, 96, "")}
    assert table("quarantine") == table("leaks") == []
    assert Path("data/quarantine.csv").read_text() == "path,reason\n"
    assert Path("data/leaks.csv").read_text().startswith("path,split,label,other_path,")
    shares = {"train": 12, "validation": 4, "test": 4}
    assert metrics() == {
        "images": 40,
        "listed": 40,
        "unreadable": 0,
        "other_files": 0,
        "empty_classes": 0,
        "exact_duplicates": 0,
        "near_duplicates": 0,
        "conflicting_labels": 0,
        "dropped": 0,
        "corrections": {"kept": 0, "relabelled": 0, "dropped": 0, "unused": 0},
        "split": {name: 2 * count for name, count in shares.items()},
        "leaks": {"exact": 0, "near": 0, "mirrored": 0, "validation_images": 0, "test_images": 0},
        "class": {label: shares | {"units": 20} for label in ("cold", "warm")},
    }


def test_two_runs_write_the_same_bytes(run, photos):
    outputs = [places.MANIFEST, places.QUARANTINE, places.LEAKS, places.DATA_METRICS]
    run()
    before = [path.read_bytes() for path in outputs]
    run()
    assert [path.read_bytes() for path in outputs] == before


def test_moving_and_renaming_change_no_split(run, photos, tmp_path):
    before = {row.sha256: row.split for row in run()}
    moved = tmp_path / "else where" / "사진"
    moved.parent.mkdir()
    photos.rename(moved)
    (moved / "warm").rename(moved / "따뜻한")
    for index, path in enumerate(sorted((moved / "cold").iterdir())):
        path.rename(path.with_name(f"photo {99 - index}.jpg"))
    after = run(moved)
    assert {row.sha256: row.split for row in after} == before
    assert after.rows[0].path == f"{moved}/cold/photo 80.jpg"


def test_what_cannot_be_used_is_quarantined_with_its_reason(run, photos):
    good = (photos / "warm" / "00.jpg").read_bytes()
    (photos / "warm" / "cut.jpg").write_bytes(good[:-100])
    (photos / "warm" / "empty.jpg").touch()
    (photos / "warm" / "link.jpg").symlink_to("nowhere.jpg")
    (photos / "cold" / "text.png").write_text("no image")
    (photos / "cold" / "notes.txt").write_text("a note")
    (photos / "cold" / "README").write_text("a note")
    (photos / "loose.jpg").write_bytes(good)
    (photos / ".DS_Store").write_bytes(b"x")
    manifest = run(max_unreadable=0.2)
    assert len(manifest) == 40
    reasons = {row["path"]: row["reason"] for row in table("quarantine")}
    assert reasons.keys() == {
        "photos/warm/cut.jpg",
        "photos/warm/empty.jpg",
        "photos/warm/link.jpg",
        "photos/cold/text.png",
        "photos/cold/notes.txt",
        "photos/cold/README",
        "photos/loose.jpg",
    }
    assert "damaged JPEG: Premature end of JPEG file" in reasons["photos/warm/cut.jpg"]
    assert reasons["photos/warm/empty.jpg"] == "empty file (0 bytes)"
    assert reasons["photos/warm/link.jpg"] == "broken link to nowhere.jpg"
    assert "no image of a known format" in reasons["photos/cold/text.png"]
    assert reasons["photos/cold/notes.txt"] == "not an image: a .txt file"
    assert reasons["photos/cold/README"] == "not an image: a file without an ending"
    assert reasons["photos/loose.jpg"] == "in no class folder"
    assert (metrics()["unreadable"], metrics()["other_files"]) == (5, 2)


def test_too_many_unreadable_images_stop_the_run_and_are_named(run, photos):
    for index in range(7):
        (photos / "warm" / f"bad {index}.jpg").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        run()
    assert str(caught.value).splitlines() == [
        "prepare.max_unreadable: 7 of 47 images cannot be read (14.9%), expected at most 5.0%. "
        "Mend or remove them, or raise the limit in params.yaml:",
        *(f"  photos/warm/bad {index}.jpg: empty file (0 bytes)" for index in range(5)),
        "  ... all are listed in data/quarantine.csv",
    ]
    assert len(table("quarantine")) == 7
    assert not Path("data/manifest.csv").exists()


def test_nothing_but_unreadable_images_ends_in_one_message(run, photos):
    """Also where any share of them is allowed: without an image there is nothing to train on."""
    for index, path in enumerate(sorted(photos.rglob("*.jpg"))):
        path.write_bytes(b"" if index % 2 else b"no image")
    (photos / "warm" / "notes.txt").write_text("a note")
    with pytest.raises(InputError) as caught:
        run(max_unreadable=1.0)
    assert str(caught.value) == (
        "prepare.source: none of the 40 images of photos can be read; data/quarantine.csv says "
        "why. Mend them, or name another source."
    )
    assert len(table("quarantine")) == 41
    assert not Path("data/manifest.csv").exists()


def test_one_readable_class_is_not_enough(run, photos):
    for path in (photos / "warm").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"photos has one class only \('cold', 20 images\)"):
        run(max_unreadable=1.0)


def test_a_name_that_is_no_text_is_quarantined(run, photos):
    bad = bytes(photos / "warm") + b"/\xb0\xa1.jpg"
    try:
        shutil.copyfile(photos / "warm" / "00.jpg", bad)
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    assert len(run()) == 40
    (row,) = table("quarantine")
    assert row == {
        "path": r"photos/warm/\xb0\xa1.jpg",
        "reason": "file name is not UTF-8; rename it",
    }


def test_one_class_is_not_enough(run, photos, tmp_path):
    (tmp_path / "above").mkdir()
    photos.rename(tmp_path / "above" / "photos")
    with pytest.raises(InputError, match=r"above has one class only \('photos', 40 images\)"):
        run("above")


def test_a_folder_without_images(run, tmp_path):
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "a.txt").write_text("x")
    with pytest.raises(InputError, match="no image among its files; data/quarantine.csv says what"):
        run()


def test_odd_classes_are_told(run, photos, capsys):
    (photos / "fox").mkdir()
    (photos / "owl").mkdir()
    shutil.move(photos / "warm" / "00.jpg", photos / "owl" / "00.jpg")
    manifest = run()
    assert [row.split for row in manifest if row.label == "owl"] == ["train"]
    assert metrics()["empty_classes"] == 1
    told = capsys.readouterr().err
    assert "no file in photos/fox; these are no classes" in told
    assert (
        "warning: class 'owl' has 1 image in 1 unit (images that belong together count once), none "
        "for validation and test: validation scores say nothing about it, nor does what they "
        "choose; test scores say nothing about it\n"
    ) in told


def test_exact_duplicates_share_a_split_and_a_group(run, photos):
    for index in range(20):
        shutil.copy(photos / "warm" / f"{index:02}.jpg", photos / "warm" / f"copy {index}.jpg")
    manifest = run(near_duplicates="keep")
    by_content: dict[str, list] = {}
    for row in manifest:
        by_content.setdefault(row.sha256, []).append(row)
    pairs = [rows for rows in by_content.values() if len(rows) == 2]
    assert len(pairs) == 20
    assert all(one.split == other.split for one, other in pairs)
    assert all(one.group == other.group == f"same-{one.sha256[:16]}" for one, other in pairs)
    assert metrics()["exact_duplicates"] == 20
    assert table("leaks") == []


def test_one_content_under_two_labels_is_told(run, photos, capsys):
    shutil.copy(photos / "warm" / "03.jpg", photos / "cold" / "same.jpg")
    run()
    assert metrics()["conflicting_labels"] == 1
    told = capsys.readouterr().err
    assert "1 file with the content of one with another label" in told
    assert "photos/cold/same.jpg and photos/warm/03.jpg" in told


@pytest.fixture
def with_near_duplicates(photos: Path) -> Path:
    """Ten photos of each class once more: recompressed, resized, or mirrored."""
    for label in ("warm", "cold"):
        for index in range(10):
            image = Image.open(photos / label / f"{index:02}.jpg")
            if index % 3 == 0:
                image = ImageOps.mirror(image)
            elif index % 3 == 1:
                image = image.resize((100, 75))
            image.save(photos / label / f"again {index}.jpg", quality=60)
    return photos


def _splits_of_pairs(manifest: Manifest) -> list[set[str]]:
    splits = {row.path: row.split for row in manifest}
    return [
        {splits[f"photos/{label}/again {i}.jpg"], splits[f"photos/{label}/{i:02}.jpg"]}
        for label in ("warm", "cold")
        for i in range(10)
    ]


def test_near_duplicates_together(run, with_near_duplicates, capsys):
    manifest = run()
    assert "in two splits" not in capsys.readouterr().err
    assert all(len(splits) == 1 for splits in _splits_of_pairs(manifest))
    assert metrics()["near_duplicates"] == 20
    assert table("leaks") == []
    groups = manifest.groups[manifest.groups >= 0]
    np.testing.assert_array_equal(np.bincount(groups), np.full(20, 2))


def test_near_duplicates_kept_are_listed_as_leaks(run, with_near_duplicates, capsys):
    manifest = run(near_duplicates="keep")
    leaks = table("leaks")
    torn = [splits for splits in _splits_of_pairs(manifest) if len(splits) == 2]
    assert len(leaks) == len(torn) > 3
    first = "{path} ({split}) and {other_path} ({other_split})".format(**leaks[0])
    assert f"warning: {len(leaks)} copies in two splits: {first}; " in capsys.readouterr().err
    assert {leak["kind"] for leak in leaks} == {"near", "mirrored"}
    split = {row.path: row.split for row in manifest}
    for leak in leaks:
        assert leak["split"] == split[leak["path"]] != leak["other_split"]
        assert leak["other_split"] == split[leak["other_path"]]
        assert 0.98 <= float(leak["similarity"]) <= 1
    counts = metrics()["leaks"]
    assert counts["near"] + counts["mirrored"] == len(leaks)
    testing = {leak["path"] for leak in leaks if leak["split"] == "test"}
    testing |= {leak["other_path"] for leak in leaks if leak["other_split"] == "test"}
    assert counts["test_images"] == len(testing)


def test_near_duplicates_dropped_are_listed_in_quarantine(run, with_near_duplicates):
    manifest = run(near_duplicates="drop")
    assert len(manifest) == 40
    assert metrics()["dropped"] == 20
    assert metrics()["near_duplicates"] == 20
    quarantine = table("quarantine")
    assert len(quarantine) == 20
    # The first by name stays.
    assert quarantine[0] == {
        "path": "photos/cold/again 0.jpg",
        "reason": "near duplicate of photos/cold/00.jpg",
    }


def test_dropping_takes_no_side_between_two_labels(run, photos):
    shutil.copy(photos / "warm" / "03.jpg", photos / "cold" / "same.jpg")
    shutil.copy(photos / "warm" / "03.jpg", photos / "warm" / "same.jpg")
    manifest = run(near_duplicates="drop")
    assert len(manifest) == 41
    assert [row["path"] for row in table("quarantine")] == ["photos/warm/same.jpg"]
    (one, other) = (
        row for row in manifest if row.path.endswith(("03.jpg", "same.jpg")) and row.group
    )
    assert {one.label, other.label} == {"cold", "warm"}
    assert one.split == other.split


def test_given_splits_are_kept_and_their_leaks_listed(run, photos, tmp_path):
    given = tmp_path / "given"
    for split, names in (("train", range(10)), ("val", range(10, 14)), ("test", range(14, 20))):
        for label in ("warm", "cold"):
            (given / split / label).mkdir(parents=True)
            for i in names:
                shutil.copy(photos / label / f"{i:02}.jpg", given / split / label)
    shutil.copy(photos / "warm" / "00.jpg", given / "test" / "warm" / "old.jpg")
    shutil.copy(photos / "warm" / "00.jpg", given / "val" / "warm" / "old.jpg")
    manifest = run("given")
    names = {"train": "train", "val": "validation", "test": "test"}
    assert all(row.split == names[row.path.split("/")[1]] for row in manifest)
    assert [(leak["path"], leak["other_path"]) for leak in table("leaks")] == [
        ("given/test/warm/old.jpg", "given/train/warm/00.jpg"),
        ("given/test/warm/old.jpg", "given/val/warm/old.jpg"),
        ("given/train/warm/00.jpg", "given/val/warm/old.jpg"),
    ]
    assert metrics()["leaks"] == {
        "exact": 3,
        "near": 0,
        "mirrored": 0,
        "validation_images": 1,
        "test_images": 1,
    }


def test_a_table_with_groups(run, photos):
    lines = ["path,label,group"]
    for label in ("warm", "cold"):
        lines += [f"{label}/{i:02}.jpg,{label},family {i % 7}" for i in range(20)]
    (photos / "list.csv").write_text("\n".join(lines))
    manifest = run("photos/list.csv")
    splits: dict[str, set[str]] = {}
    for row in manifest:
        splits.setdefault(row.group, set()).add(row.split)
    assert len(splits) == 7
    assert all(len(found) == 1 for found in splits.values())
    assert {name for found in splits.values() for name in found} == {"train", "validation", "test"}


def test_a_table_that_names_a_missing_file(run, photos):
    lines = [
        "path,label",
        *(f"{label}/{i:02}.jpg,{label}" for label in ("warm", "cold") for i in range(20)),
    ]
    (photos / "list.csv").write_text("\n".join([*lines, "gone.jpg,warm"]))
    assert len(run("photos/list.csv")) == 40
    assert table("quarantine") == [{"path": "photos/gone.jpg", "reason": "no such file"}]


def test_main_reads_params_and_prints_one_message(tmp_path, monkeypatch, capsys, photos):
    root = Path(__file__).parents[2]
    monkeypatch.chdir(tmp_path)
    text = (root / "params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("source: data/samples/faces", "source: photos"))
    prepare.main()
    assert metrics()["images"] == 40
    shutil.rmtree(photos)
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run_stage("prepare", prepare.main)
    assert caught.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("error: prepare.source: photos does not exist")


def test_more_files_than_are_under_way_at_once_come_back_in_order(run, tmp_path):
    for label in ("one", "two"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(150):
            image = np.random.default_rng(index + 1000 * (label == "two")).integers(
                0, 256, (4, 4, 3)
            )
            Image.fromarray(image.astype(np.uint8)).save(
                tmp_path / "photos" / label / f"{index:03}.png"
            )
    manifest = run()
    assert len(manifest) == 300
    assert [row.path for row in manifest] == sorted(
        path.relative_to(tmp_path).as_posix() for path in (tmp_path / "photos").rglob("*.png")
    )


def test_a_burst_is_one_unit_and_told(run, photos, capsys):
    for path in sorted((photos / "warm").iterdir())[1:]:
        shutil.copy(photos / "warm" / "00.jpg", path)
    manifest = run()
    assert {row.split for row in manifest if row.label == "warm"} == {"train"}
    assert metrics()["class"]["warm"] == {"train": 20, "validation": 0, "test": 0, "units": 1}
    assert (
        "warning: class 'warm' has 20 images in 1 unit (images that belong together count once), "
        "none for validation and test"
    ) in capsys.readouterr().err


@pytest.mark.parametrize(("images", "units"), [(1, 1), (6, 1)])
def test_one_unit_per_class_leaves_no_test_and_is_told(run, photos, capsys, images, units):
    for label in ("warm", "cold"):
        first, *others = sorted((photos / label).iterdir())
        for index, path in enumerate(others):
            path.unlink() if index >= images - 1 else shutil.copy(first, path)
    manifest = run()
    assert {row.split for row in manifest} == {"train"}
    assert metrics()["class"]["warm"]["units"] == units
    told = capsys.readouterr().err
    assert told.count("warning: no class has a test image") == 1
    assert "Raising prepare.test cannot help" in told


def test_two_units_per_class_are_trained_and_tested(run, photos, capsys):
    for label in ("warm", "cold"):
        for path in sorted((photos / label).iterdir())[2:]:
            path.unlink()
    manifest = run()
    assert sorted(row.split for row in manifest) == ["test", "test", "train", "train"]
    told = capsys.readouterr().err
    assert "class 'cold' has 2 images in 2 units" in told
    assert "none for validation: validation scores say nothing about it" in told
    run(test=0.0)
    assert "warning" not in capsys.readouterr().err


def test_all_of_one_group_is_refused(run, photos, tmp_path):
    lines = [f"photos/{p.parent.name}/{p.name},{p.parent.name},tour" for p in photos.glob("*/*")]
    Path("one.csv").write_text("\n".join(["path,label,group", *lines]))
    with pytest.raises(InputError, match="all 40 images of one.csv belong to one group, 'tour'"):
        run("one.csv")


def test_all_of_one_picture_is_refused(run, photos):
    first = photos / "cold" / "00.jpg"
    for path in photos.glob("*/*"):
        if path != first:
            shutil.copy(first, path)
    with pytest.raises(InputError, match="all 40 images of photos show one picture, as photos/c"):
        run()


def test_many_small_classes_are_counted(run, photos, capsys):
    for index in range(8):
        (photos / f"rare {index}").mkdir()
        shutil.move(photos / "warm" / f"{index:02}.jpg", photos / f"rare {index}" / "a.jpg")
    run()
    told = capsys.readouterr().err
    assert told.count("has 1 image in 1 unit") == 5
    assert "warning: 3 more classes are too small for every split" in told
