"""Photos that changed without a trace are found by reading them, and prepared anew."""

import shutil
from pathlib import Path

import pytest

from headstart.commands.cli import main
from headstart.common import places
from headstart.dataset.file_states import FileState
from headstart.dataset.manifest import read_manifest
from headstart.dataset.options import PrepareOptions
from pipeline import prepare


@pytest.fixture
def project(tmp_path: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prepare 40 photos on a file system that hides all writes but those of another size."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photo_folder, "photos")

    def state_of(path: str) -> FileState | None:
        try:
            return FileState(1, hash(path), Path(path).stat().st_size, 5, 5)
        except OSError:
            return None

    for module in ("file_states", "prepared", "descriptions", "inspecting"):
        monkeypatch.setattr(f"headstart.dataset.{module}.state_of", state_of)
    run()
    return tmp_path


def run() -> None:
    content = {"source": "photos", "validation": 0.2, "test": 0.2, "seed": 0}
    content |= {"max_unreadable": 0.05, "near_duplicates": "together", "corrections": None}
    prepare.run(PrepareOptions.model_validate(content | {"correct": "all"}))


def swap_bytes(path: Path) -> None:
    """Change a photo, but not its size."""
    data = path.read_bytes()
    path.write_bytes(data.replace(b"JFIF", b"JFIE", 1))
    assert path.read_bytes() != data


def test_photos_as_they_were_are_said_to_be(project, capsys):
    assert main(["verify"]) == 0
    assert capsys.readouterr().out == "40 images: all as they were when they were prepared\n"


def test_what_changed_unseen_is_listed_and_prepared_anew(project, capsys):
    before = places.MANIFEST.read_bytes()
    first, second, *_ = [Path(row.path) for row in read_manifest(places.MANIFEST)]
    swap_bytes(second)
    run()
    assert places.MANIFEST.read_bytes() == before
    first.unlink()
    capsys.readouterr()
    assert main(["verify"]) == 1
    assert capsys.readouterr().out == (
        f"{first}: cannot be read\n{second}: differs\n"
        "2 of 40 images: `dvc repro` checks them anew\n"
    )
    run()
    rows = {row.path: row.sha256 for row in read_manifest(places.MANIFEST)}
    assert str(first) not in rows
    assert rows[str(second)].encode() not in before
    assert main(["verify"]) == 0


def test_a_swap_alone_is_prepared_anew(project):
    swapped = Path(read_manifest(places.MANIFEST).rows[0].path)
    swap_bytes(swapped)
    assert main(["verify"]) == 1
    run()
    assert main(["verify"]) == 0


def test_without_a_table_there_is_nothing_to_compare(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").touch()
    assert main(["verify"]) == 1
    assert "data/manifest.csv: no such file: run `dvc repro prepare`" in capsys.readouterr().err
