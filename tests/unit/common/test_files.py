"""A file is there whole or not at all."""

import hashlib
import os
import stat
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import h5py
import numpy as np
import pytest

from headstart.common.files import atomic_folder, atomic_write, copy_folder, sha256_of, write_json
from headstart.common.hdf5 import write_hdf5
from headstart.common.system_errors import WriteError
from headstart.common.temporaries import TEMPORARY_PATTERN, is_abandoned, sweep, temporary_folder


def test_the_file_appears_when_the_block_succeeds(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_the_temporary_name_keeps_all_suffixes(tmp_path):
    with atomic_write(tmp_path / "head.weights.h5") as temporary:
        assert temporary.name.endswith("-head.weights.h5")
        (hidden,) = tmp_path.iterdir()
        assert temporary.parent == hidden
        assert fnmatch(hidden.name, TEMPORARY_PATTERN)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_halfway():
        with atomic_write(path) as temporary:
            temporary.write_text("ne")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_halfway()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_the_mode_is_that_of_an_ordinary_file(tmp_path):
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("")
    (tmp_path / "b").write_text("")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"}
    assert len(modes) == 1


def test_json_keeps_the_order_and_refuses_what_it_cannot_say(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 0.1, "a": "개"})
    assert path.read_text() == '{\n  "b": 0.1,\n  "a": "개"\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"b": float("nan")})
    assert "0.1" in path.read_text()


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"x" * 100_000).hexdigest()


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    def write(text, *, fail=False):
        with atomic_folder(tmp_path / "export") as folder:
            (folder / text).write_text(text)
            if fail:
                raise RuntimeError("halfway")

    write("first")
    write("second")
    with pytest.raises(RuntimeError, match="halfway"):
        write("third", fail=True)
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["export", "second"]
    (tmp_path / "new").mkdir()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("export", "new")}
    assert len(modes) == 1


def test_what_lies_in_the_way_is_named(tmp_path):
    (tmp_path / "models").write_text("a file")
    (tmp_path / "data.json").mkdir()
    message = rf"heads: cannot be written to \(Not a directory: {tmp_path / 'models'}\); move away"
    with pytest.raises(WriteError, match=message):
        write_json(tmp_path / "models" / "heads" / "card.json", {})
    with pytest.raises(
        WriteError, match=r"data.json: cannot be written to \(Is a directory\); move"
    ):
        write_json(tmp_path / "data.json", {})
    with pytest.raises(WriteError, match="File name too long.*choose a shorter name"):
        write_json(tmp_path / ("x" * 255), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.json", "models"]


def test_errors_about_other_files_pass(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a"):
        Path("/nowhere/photo.jpg").read_bytes()
    with pytest.raises(TimeoutError), atomic_write(tmp_path / "a"):
        raise TimeoutError("a download")
    message = r"a: cannot be written to \(No space left on device\); make room"
    with pytest.raises(WriteError, match=message), atomic_write(tmp_path / "a"):
        raise RuntimeError("inner library: write failed: No space left on device [28]")


_WRITE_TOO_MUCH = """
import resource, sys
from pathlib import Path
import numpy as np
from headstart.common.files import atomic_folder, atomic_write
from headstart.common.hdf5 import write_hdf5
from headstart.common.system_errors import WriteError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
path = Path(sys.argv[1])
def text():
    with atomic_write(path) as temporary:
        temporary.write_text("new" * 100_000)
def hdf5():
    with write_hdf5(path) as file:
        for index in range(200):
            file.create_dataset(str(index), data=np.arange(200.0))
def room():
    with atomic_write(path, room=10**6) as temporary:
        raise AssertionError("begun")
def folder():
    with atomic_folder(path.with_name("folder")) as new:
        (new / "model.bin").write_bytes(bytes(10**6))
for write in (text, hdf5, room, folder):
    try:
        write()
    except WriteError as error:
        print(error)
"""


def test_a_limit_on_the_size_of_files(tmp_path):
    """As a full disk is: the system takes a part, then refuses; HDF5 crashed the process."""
    path = tmp_path / "a.h5"
    path.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", _WRITE_TOO_MUCH, path], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    expected = "cannot be written to (File too large); raise the limit on the size of files (`ulim"
    lines = done.stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        *[str(path)] * 3,
        str(tmp_path / "folder"),
    ]
    assert all(expected in line for line in lines)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]


def test_hdf5_reads_back(tmp_path):
    with write_hdf5(tmp_path / "a.h5") as file:
        file.create_dataset("x", data=np.arange(1000), track_times=False)
        file.attrs["name"] = "a"
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert file["x"][:].tolist() == list(range(1000))
        assert file.attrs["name"] == "a"


_HOLD = """
import sys, time
from pathlib import Path
from headstart.common.files import atomic_write
from headstart.common.temporaries import temporary_folder
folder = Path(sys.argv[1])
with atomic_write(folder / "a.json") as one, temporary_folder(folder) as other:
    (other / "trunk.h5").write_bytes(b"x")
    print(one.parent.name, other.name, flush=True)
    time.sleep(60)
"""


def test_what_a_kill_leaves_goes_with_the_next_write_and_nothing_else(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, tmp_path], stdout=subprocess.PIPE, text=True
    )
    held = sorted(process.stdout.readline().split())
    mine = tmp_path / ".headstart-notes"
    mine.mkdir()
    write_json(tmp_path / "b.json", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*held, mine.name, "b.json"]
    process.kill()
    process.wait()
    with temporary_folder(tmp_path) as folder:
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {folder.name, mine.name, "b.json"}
    sweep(tmp_path / "nowhere")


def test_without_a_lock_the_age_decides(tmp_path):
    folder = tmp_path / ".headstart-0123abcd"
    folder.mkdir()
    (folder / "part").write_text("")
    os.utime(folder, (0, 0))
    assert not is_abandoned(folder)
    sweep(tmp_path)
    os.utime(folder / "part", (0, 0))
    os.utime(folder, (0, 0))
    assert is_abandoned(folder)
    assert not is_abandoned(tmp_path / "gone")
    sweep(tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_copy_of_a_read_only_folder_can_be_written_to(tmp_path):
    (tmp_path / "kept" / "model").mkdir(parents=True)
    (tmp_path / "kept" / "model" / "a").write_text("a")
    (tmp_path / "kept" / "model" / "a").chmod(0o444)
    (tmp_path / "kept" / "model").chmod(0o555)
    copy_folder(tmp_path / "kept", tmp_path / "copy")
    assert (tmp_path / "copy" / "model" / "a").read_text() == "a"
    assert stat.S_IMODE((tmp_path / "copy" / "model").stat().st_mode) & 0o200
    assert stat.S_IMODE((tmp_path / "copy" / "model" / "a").stat().st_mode) & 0o200
    (tmp_path / "kept" / "model").chmod(0o755)
