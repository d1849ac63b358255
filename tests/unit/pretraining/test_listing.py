from pathlib import Path
from typing import Any

import pytest

from headstart.common.errors import InputError
from headstart.common.files import sha256_of
from headstart.common.places import MANIFEST
from headstart.dataset.manifest import Manifest, ManifestRow, write_manifest
from headstart.images import decoding
from headstart.pretraining.listing import Source, SourceListing
from headstart.pretraining.options import PretrainOptions, PretrainRun

KEY = "pretrain.runs.x"


def listed(source: Path | str, **changes: Any) -> SourceListing:
    run = PretrainRun(**{"backbone": "LeNet5", "seed": 0, **changes})
    return Source(PretrainOptions(source=str(source), runs={})).listing(KEY, run)


def names(listing: SourceListing) -> list[str]:
    return [Path(file.path).name for file in listing.files]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of two files each, in class folders; no decoder would take them."""
    root = tmp_path / "source"
    for label in "012":
        (root / label).mkdir(parents=True)
        for index in range(2):
            (root / label / f"{label}{index}.png").write_bytes(f"{label}{index}".encode())
    return root


def manifest_of(rows: list[tuple[str, str, str, str]]) -> None:
    """Write the manifest of (path, label, split, group); each digest is of its path's length."""
    write_manifest(
        MANIFEST,
        Manifest(
            ManifestRow(path, f"{index:064x}", label, split, group, 8, 8)
            for index, (path, label, split, group) in enumerate(rows)
        ),
    )


def test_files_are_hashed_and_not_decoded(folder: Path) -> None:
    (folder / "1" / "notes.txt").write_text("no image")
    found = listed(folder)
    assert names(found) == ["00.png", "01.png", "10.png", "11.png", "20.png", "21.png"]
    assert found.sha256[3] == sha256_of(folder / "1" / "11.png")
    assert [file.label for file in found.files] == ["0", "0", "1", "1", "2", "2"]


def test_a_file_that_cannot_be_read_has_no_digest(folder: Path) -> None:
    (folder / "1" / "11.png").unlink()
    (folder / "1" / "11.png").symlink_to("gone")
    assert listed(folder).sha256[3] == ""


def test_classes_may_be_chosen(folder: Path) -> None:
    assert names(listed(folder, classes=[0, 2])) == ["00.png", "01.png", "20.png", "21.png"]


def test_each_file_is_read_once_for_all_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = decoding.read
    monkeypatch.setattr(decoding, "read", lambda path: read.append(path) or original(path))
    source = Source(PretrainOptions(source=str(folder), runs={}))
    for changes in ({"classes": ["0", "1"]}, {}, {"objective": "reconstruct"}):
        source.listing(KEY, PretrainRun(backbone="LeNet5", seed=0, **changes))
    assert sorted(Path(path).name for path in read) == names(listed(folder))


def test_what_the_source_gives_for_testing_is_left_out(folder: Path) -> None:
    (folder / "1").rename(folder.parent / "other")
    (folder / "0").rename(folder / "train")
    (folder / "2").rename(folder / "test")
    for split in ("train", "test"):
        for index, path in enumerate(sorted((folder / split).iterdir())):
            (folder / split / str(index)).mkdir()
            path.rename(folder / split / str(index) / path.name)
    assert names(listed(folder)) == ["00.png", "01.png"]
    assert names(listed(folder, objective="reconstruct")) == ["00.png", "01.png"]


def test_reconstruction_needs_no_class_folders_and_knows_no_labels(folder: Path) -> None:
    found = listed(folder, objective="reconstruct")
    assert len(found.files) == 6
    assert {file.label for file in found.files} == {""}
    (folder / "1" / ".hidden.png").write_bytes(b"x")
    (folder / "1" / "notes.txt").write_text("no image")
    assert names(listed(folder / "1", objective="reconstruct")) == ["10.png", "11.png"]


def test_reconstruction_takes_a_table_too(folder: Path) -> None:
    table = folder / "table.csv"
    table.write_text("path,label,split\n0/00.png,a,\n1/10.png,a,test\n2/20.png,a,val\n")
    found = listed(table, objective="reconstruct")
    assert [(Path(file.path).name, file.split) for file in found.files] == [
        ("00.png", None),
        ("20.png", "validation"),
    ]


def test_the_manifest_gives_training_and_validation_images_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        ("a/0.png", "a", "train", "same"),
        ("a/1.png", "a", "test", ""),
        ("b/0.png", "b", "train", ""),
        ("b/1.png", "b", "validation", ""),
        ("c/0.png", "c", "test", ""),
    ]
    manifest_of(rows)
    # No file is there: nothing but the manifest is read.
    for name in (str(MANIFEST), f"./{MANIFEST}", str(tmp_path / MANIFEST)):
        found = listed(name)
        assert found.prepared
        assert [file.path for file in found.files] == ["a/0.png", "b/0.png", "b/1.png"]
        assert found.content() == [
            (f"{0:064x}", "a", "train", "same"),
            (f"{2:064x}", "b", "train", ""),
            (f"{3:064x}", "b", "validation", ""),
        ]
    unlabeled = listed(MANIFEST, objective="reconstruct")
    assert [content[1:] for content in unlabeled.content()] == [
        ("", "train", "same"),
        ("", "train", ""),
        ("", "validation", ""),
    ]
    with pytest.raises(InputError, match=r"x\.classes: c not among the classes of .* \(a, b\)"):
        listed(MANIFEST, classes=["a", "c"])


def test_a_missing_manifest_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"data/manifest\.csv: no such file"):
        listed(MANIFEST)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "gone"}, r"^pretrain\.source: gone does not exist"),
        (
            {"source": "gone", "objective": "reconstruct"},
            r"^pretrain\.source: gone does not exist",
        ),
        (
            {"classes": ["0", "7"]},
            r"^pretrain\.runs\.x\.classes: 7 not among the classes of .* \(0, 1, 2",
        ),
        (
            {"classes": ["0"]},
            r"^pretrain\.runs\.x: objective classify needs two classes .* received 0",
        ),
    ],
)
def test_a_source_that_cannot_be_used_is_told(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    source = Path(changes.pop("source", folder))
    with pytest.raises(InputError, match=message):
        listed(source, **changes)


def test_a_source_without_images_is_told(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        path.write_text("no image")
        path.rename(path.with_suffix(".txt"))
    for objective in ("classify", "reconstruct"):
        with pytest.raises(InputError, match=r"^pretrain\.source: no image to train on in"):
            listed(folder, objective=objective)
