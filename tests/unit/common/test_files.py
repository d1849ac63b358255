"""A file is there whole or not at all."""

import hashlib
import stat

import pytest

from headstart.common.files import atomic_write, sha256_of, write_json


def test_the_file_appears_when_the_block_succeeds(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_the_temporary_name_keeps_all_suffixes(tmp_path):
    with atomic_write(tmp_path / "head.weights.h5") as temporary:
        assert temporary.name.startswith(".")
        assert temporary.name.endswith("-head.weights.h5")


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
