"""Kept folders appear whole or not at all; a held folder is one process's alone."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from headstart.common.cache import (
    Keep,
    cache_folder,
    claim,
    is_abandoned,
    is_held,
    read_card,
    temporary_folder,
)
from headstart.common.errors import InputError

DIGEST = "a" * 64


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    return Keep("fits", tmp_path)


def fill(keep: Keep, text: str = "content") -> Path:
    with keep.create(DIGEST, versions={"keras": "3"}) as folder:
        (folder / "model").mkdir()
        (folder / "model" / "weights.txt").write_text(text)
    return keep.root / DIGEST


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADSTART_CACHE", "mine")
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv("HEADSTART_CACHE", "~/mine")
    assert cache_folder() == Path.home() / "mine"
    monkeypatch.delenv("HEADSTART_CACHE")
    assert cache_folder().is_absolute()


def test_kept_whole(keep: Keep) -> None:
    assert keep.find(DIGEST) is None
    folder = fill(keep)
    assert keep.find(DIGEST) == folder
    assert read_card(folder)["versions"] == {"keras": "3"}
    assert (folder / "model/weights.txt").read_text() == "content"
    ordinary = keep.root.parent / "ordinary"
    ordinary.mkdir()
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
    assert list(keep.root.iterdir()) == [folder]


def test_a_failure_keeps_nothing(keep: Keep) -> None:
    def fail() -> None:
        with keep.create(DIGEST):
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail()
    assert not any(keep.root.iterdir())


def test_the_first_of_two_stays(keep: Keep) -> None:
    fill(keep, "first")
    fill(keep, "second")
    assert (keep.root / DIGEST / "model/weights.txt").read_text() == "first"


@pytest.mark.parametrize("damage", ["changed", "missing", "no card", "changed card"])
def test_damage_is_found_and_made_good(
    keep: Keep, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill(keep)
    path = folder / ("card.json" if "card" in damage else "model/weights.txt")
    if damage.startswith("changed"):
        path.write_text(path.read_text().replace("content", "another").replace('"3"', '"4"'))
    else:
        path.unlink()
    assert keep.find(DIGEST) is None
    assert f"{folder}: a part of the cache is damaged" in capsys.readouterr().err
    assert not folder.exists()
    fill(keep)
    assert keep.find(DIGEST) == folder


def test_json_values(keep: Keep) -> None:
    key = {"backbone": "LeNet5", "code": "1"}
    assert keep.get(key) is None
    keep.put(key, [1, 2])
    assert keep.get(key) == [1, 2]
    assert keep.get({**key, "code": "2"}) is None


def test_the_name_of_the_card_is_taken(keep: Keep) -> None:
    with (
        pytest.raises(ValueError, match=r"card\.json is what"),
        keep.create(DIGEST) as folder,
    ):
        (folder / "card.json").write_text("{}")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keep = Keep("fits", tmp_path / "file")
    keep.put("key", 1)  # is no error: it would only have been faster
    with (
        pytest.raises(InputError, match="cannot be written to .* with HEADSTART_CACHE"),
        keep.create(DIGEST),
    ):
        pass
    with pytest.raises(InputError, match="cannot be written to"), claim(tmp_path / "file" / "run"):
        pass


def test_one_process_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, order = tmp_path / "run", []

    def work(name: str) -> None:
        with claim(run):
            order.append(name)
            for path in run.iterdir():
                path.unlink()
            run.rmdir()

    with claim(run):
        assert is_held(run)
        with pytest.raises(BlockingIOError), claim(run, wait=False):
            pass
        threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        while capsys.readouterr().err.count("waiting") < 1:
            pass
        assert order == []
    for thread in threads:
        thread.join()
    assert sorted(order) == ["a", "b", "c"]
    assert not run.exists()
    assert not is_held(run)


def test_a_kill_lets_go_and_the_next_run_makes_room(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from headstart.common.cache import *\n"
        "with temporary_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'trunk.h5').write_bytes(b'x')\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    with temporary_folder(tmp_path):
        assert (left / "trunk.h5").exists()
    process.kill()
    process.wait()
    with temporary_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert not any(tmp_path.iterdir())


def test_without_a_lock_the_age_decides(tmp_path: Path) -> None:
    folder = tmp_path / ".abcdefgh"
    folder.mkdir()
    (folder / "part").write_text("")
    os.utime(folder, (0, 0))
    assert not is_abandoned(folder)
    os.utime(folder / "part", (0, 0))
    assert is_abandoned(folder)
    assert not is_abandoned(tmp_path / "gone")
