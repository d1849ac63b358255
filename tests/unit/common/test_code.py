from pathlib import Path

import pytest

from headstart.common import code
from headstart.common.code import digest_of_code, digest_of_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two modules, one of them in a folder."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "first.py").write_text("1\n")
    (tmp_path / "inner" / "second.py").write_text("2\n")
    return tmp_path


def test_a_byte_a_name_and_a_place_change_the_digest(folder: Path) -> None:
    seen = {digest_of_files(folder)}
    (folder / "first.py").write_text("1 \n")
    seen.add(digest_of_files(folder))
    (folder / "first.py").rename(folder / "one.py")
    seen.add(digest_of_files(folder))
    (folder / "one.py").rename(folder / "inner" / "one.py")
    seen.add(digest_of_files(folder))
    (folder / "table.csv").write_text("")
    seen.add(digest_of_files(folder))
    assert len(seen) == 5


def test_what_python_and_the_desktop_leave_does_not_count(folder: Path) -> None:
    before = digest_of_files(folder)
    for name in ("__pycache__/first.cpython-313.pyc", "inner/__pycache__/x.pyc", ".DS_Store"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert digest_of_files(folder) == before


def test_packages_are_taken_in_any_order_and_a_missing_one_is_an_error() -> None:
    assert digest_of_code(("common", "features")) == digest_of_code(("features", "common"))
    assert digest_of_code(("common", "features")) != digest_of_code(("common",))
    assert digest_of_code(("__init__.py",)) == digest_of_code(("__init__.py",))
    with pytest.raises(FileNotFoundError, match="nothing_of_that_name"):
        digest_of_code(("common", "nothing_of_that_name"))


def test_a_package_is_read_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest_of_code(("common",))
    monkeypatch.setattr(code, "digest_of_files", lambda _: "another")
    assert digest_of_code(("common",)) == before
