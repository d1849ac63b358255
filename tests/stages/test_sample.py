"""The samples are real pictures, the same bytes each time."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.samples import write_sample
from pipeline import sample


def digest(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_faces_come_as_one_folder_per_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sample", "faces"])
    sample.main()
    folder = tmp_path / "data" / "samples" / "faces"
    counts = {path.name: len(list(path.glob("*.png"))) for path in folder.iterdir()}
    assert counts == {"face": 100, "other": 100}
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))])
    assert pixels.shape == (200, 25, 25)
    assert pixels.std() > 40


def test_digits_come_as_one_folder_per_class(tmp_path):
    write_sample("digits", tmp_path / "digits")
    counts = {path.name: len(list(path.glob("*.png"))) for path in (tmp_path / "digits").iterdir()}
    assert sorted(counts) == [str(digit) for digit in range(10)]
    assert sum(counts.values()) == 1797
    first = np.asarray(Image.open(tmp_path / "digits" / "0" / "0000.png"))
    # scikit-learn's own first row, on [0, 16].
    assert first[0].tolist() == [round(v * 255 / 16) for v in (0, 0, 5, 13, 9, 1, 0, 0)]


def test_a_second_run_writes_the_same_bytes_and_leaves_nothing_else(tmp_path):
    folder = tmp_path / "faces"
    write_sample("faces", folder)
    before = digest(folder)
    (folder / "stray.png").write_bytes(b"left by somebody")
    write_sample("faces", folder)
    assert digest(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_the_bytes_do_not_depend_on_a_compressor(tmp_path):
    write_sample("faces", tmp_path / "faces")
    for path in (tmp_path / "faces" / "face").iterdir():
        assert path.stat().st_size > 25 * 25


def test_an_unknown_name_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sample", "flowers"])
    with pytest.raises(SystemExit):
        sample.main()
    assert "invalid choice: 'flowers' (choose from" in capsys.readouterr().err


def test_no_tensorflow_is_imported(tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pipeline import prepare, sample\n"
        "sample.run('digits', Path(sys.argv[1]))\n"
        "print(sorted({'tensorflow', 'keras'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "digits")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
