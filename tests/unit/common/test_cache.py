"""Kept folders appear whole or not at all; a held folder is one process's alone."""

import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from headstart.common.cache import Keep, cache_folder, changing, claim, open_cache, read_card
from headstart.common.errors import InputError
from headstart.common.temporaries import is_held

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


def test_what_cannot_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep = Keep("fits", tmp_path)
    with changing(tmp_path):
        (tmp_path / "fits").write_text("a file")
    message = rf"{keep.root}: cannot be written to \(File exists: .*another folder with HEADSTART_"
    with pytest.raises(InputError, match=message), keep.create(DIGEST):
        pass
    with pytest.raises(InputError, match="cannot be written to"), claim(tmp_path / "fits" / "run"):
        pass
    # It would only have been faster.
    for value in (1, 2):
        keep.put("key", value)
    with keep.create_if_possible(DIGEST) as folder:
        (folder / "weights.txt").write_text("fitted")
    assert not folder.exists()
    assert capsys.readouterr().err.count("This run goes on") == 1


def test_a_missing_or_empty_folder_is_marked_by_the_first_write(tmp_path: Path) -> None:
    for name in ("empty", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    for root in (tmp_path / "new" / "cache", tmp_path / "linked", tmp_path / "empty"):
        before = sorted(tmp_path.rglob("*"))
        keep = Keep("fits", root)
        assert keep.get("key") is None
        assert sorted(tmp_path.rglob("*")) == before
        keep.put("key", 1)
        tag = (root / "CACHEDIR.TAG").read_text()
        assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55\n# Headstart's cache, l")
        assert Keep("fits", root).get("key") == 1
    shutil.rmtree(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    keep.put("key", 2)
    assert (root / "CACHEDIR.TAG").read_text() == tag


def test_an_older_cache_is_adopted_only_when_nothing_else_is_in_it(tmp_path: Path) -> None:
    for name in (
        f"features/{'b' * 64}",
        f"fits/{DIGEST}",
        "models/.k3x_9abc",
        f"fits/.1234abcd-{DIGEST}",
    ):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "costs").mkdir()
    (tmp_path / "costs" / f"{DIGEST}.json").write_text("{}")
    assert open_cache(tmp_path) == tmp_path
    assert not (tmp_path / "CACHEDIR.TAG").exists()
    for name in ("models/heads", "costs/notes.txt", "data", ".git"):
        foreign = tmp_path / name
        foreign.mkdir()
        with pytest.raises(
            InputError, match=f"{tmp_path}: expected .* holds {name}\\. Nothing was"
        ):
            open_cache(tmp_path)
        with pytest.raises(InputError, match=f"holds {name}"), changing(tmp_path):
            pass
        foreign.rmdir()
    elsewhere = tmp_path.with_name(tmp_path.name + "-elsewhere")
    (elsewhere / DIGEST).mkdir(parents=True)
    (tmp_path / "advice").symlink_to(elsewhere)
    assert open_cache(tmp_path) == tmp_path
    (elsewhere / "mine").mkdir()
    with pytest.raises(InputError, match="holds advice/mine"):
        open_cache(tmp_path)
    (tmp_path / "advice").unlink()
    with changing(tmp_path):
        assert (tmp_path / "CACHEDIR.TAG").is_file()
    # From now on it is ours, whatever is put there.
    (tmp_path / "data").mkdir()
    assert open_cache(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("Signature: 8a477f597d28d172789f06886806bc55\n# pip's\n", "holds CACHEDIR.TAG"),
        ("# Headstart's cache, layout 1\n", "holds CACHEDIR.TAG"),
        (
            "Signature: 8a477f597d28d172789f06886806bc55\n# Headstart's cache, layout 2\n",
            "CACHEDIR.TAG: expected layout 1 of Headstart's cache, received 2: .*update Headstart",
        ),
    ],
)
def test_a_tag_of_something_else(tmp_path: Path, tag: str, message: str) -> None:
    (tmp_path / "CACHEDIR.TAG").write_text(tag)
    with pytest.raises(InputError, match=message):
        Keep("fits", tmp_path)


def test_what_a_group_shares(tmp_path: Path) -> None:
    mask = os.umask(0o002)
    try:
        keep = Keep("fits", tmp_path / "cache")
        with claim(keep.root / ("b" * 64)):
            folder = fill(keep)
    finally:
        os.umask(mask)
    modes = {
        stat.S_IMODE(path.stat().st_mode) & (0o777 if path.is_dir() else 0o666)
        for path in (keep.root.parent, *keep.root.parent.rglob("*"))
    }
    assert modes == {0o775, 0o664}
    assert folder.is_dir()


def test_a_damaged_link_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep = Keep("fits", tmp_path / "cache")
    folder = fill(keep)
    moved = folder.rename(tmp_path / "moved")
    folder.symlink_to(moved)
    assert keep.find(DIGEST) == folder
    (moved / "model/weights.txt").write_text("other")
    assert keep.find(DIGEST) is None
    assert f"left alone, since {folder} is a symbolic link" in capsys.readouterr().err
    assert (moved / "model/weights.txt").read_text() == "other"
    with pytest.raises(InputError, match=f"{folder}: cannot be written to"):
        fill(keep)


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
