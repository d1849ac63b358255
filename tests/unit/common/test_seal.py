"""The seal: what is checked, before anything is parsed, and what is said."""

import fcntl
import hashlib
import json
import os
import subprocess
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from headstart.common import seal
from headstart.common.errors import InputError
from headstart.common.seal import (
    USER_BLOCK,
    BrokenSeal,
    check_seal,
    create_sealed_h5,
    open_sealed_h5,
    read_checked,
    read_sealed_json,
    require_digest,
    seal_h5,
    write_checksum,
    write_sealed_json,
)

REMEDY = "run `dvc repro train` to write it anew"


def write(path: Path, kind: str = "numbers 1") -> Path:
    with create_sealed_h5(path, kind) as file:
        file.create_dataset("numbers", data=np.arange(1000), track_times=False)
    return path


def test_what_is_written_is_read_and_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one.h5"), write(tmp_path / "other.h5")
    assert one.read_bytes() == other.read_bytes()
    with open_sealed_h5(one, "numbers 1", REMEDY) as file:
        assert np.array_equal(file["numbers"], np.arange(1000))
    # Any other program reads it as HDF5, and `head` shows the seal.
    assert h5py.is_hdf5(one)
    first, kind, size, payload = one.read_bytes()[:USER_BLOCK].rstrip(b"\0").splitlines()
    assert first.startswith(b"headstart seal 1 ")
    assert (kind, size) == (b"numbers 1", b"size %d" % one.stat().st_size)
    assert payload.startswith(b"payload %d 0 " % one.stat().st_size)


def test_the_digest_is_of_all_behind_its_line(tmp_path: Path) -> None:
    data = write(tmp_path / "a.h5").read_bytes()
    line, _, rest = data.partition(b"\n")
    assert line.split()[-1].decode() == hashlib.sha256(rest).hexdigest()
    assert check_seal(tmp_path / "a.h5", "numbers 1") == hashlib.sha256(rest).hexdigest()


def test_a_payload_is_hashed_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "_BLOCK_BYTES", 3000)
    monkeypatch.setattr(seal, "_PIECE_BYTES", 700)
    path = tmp_path / "large.h5"
    with h5py.File(path, "w", userblock_size=USER_BLOCK) as file:
        numbers = file.create_dataset("numbers", data=np.arange(5000), track_times=False)
        payload = int(numbers.id.get_offset()), 40_000
    seal_h5(path, "numbers 1", payload)
    data = np.arange(5000).tobytes()
    hashes = [hashlib.sha256(data[at : at + 3000]).digest() for at in range(0, len(data), 3000)]
    line = path.read_bytes().splitlines()[3].decode()
    assert line == f"payload {payload[0]} 40000 {hashlib.sha256(b''.join(hashes)).hexdigest()}"
    check_seal(path, "numbers 1")
    for place in (payload[0], payload[0] + 39_999, payload[0] - 1, payload[0] + 40_000):
        before = path.read_bytes()
        if place < len(before):
            path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
            with pytest.raises(BrokenSeal, match="damaged or changed"):
                check_seal(path, "numbers 1")
            path.write_bytes(before)
    check_seal(path, "numbers 1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[USER_BLOCK:], "written by an older release, without a digest"),
        (lambda data: b"text", "not a file that Headstart wrote"),
        (lambda data: b"", "not a file that Headstart wrote"),
        (lambda data: data[:-1], r"expected [\d,]+ bytes, received [\d,]+"),
        (lambda data: data + b"x", r"expected [\d,]+ bytes, received [\d,]+"),
        (lambda data: data[:120], "its beginning is damaged"),
        (lambda data: data[:-1] + b"x", r"damaged or changed after it was written \(sha256\)"),
        (lambda data: data.replace(b"numbers 1\n", b"numbers 2\n"), "'numbers 1', .* 'numbers 2'"),
        (lambda data: data.replace(b"numbers 1\n", b"letters 1\n"), "'numbers 1', .* 'letters 1'"),
    ],
)
def test_a_broken_seal_names_file_and_command(tmp_path: Path, change, message: str) -> None:
    path = write(tmp_path / "a.h5")
    path.write_bytes(change(path.read_bytes()))
    with (
        pytest.raises(InputError, match=rf"a\.h5: .*{message}.*: run `dvc repro train` to"),
        open_sealed_h5(path, "numbers 1", REMEDY),
    ):
        pass


def test_no_file(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "a.h5", "no such file"), (tmp_path, "expected a file")):
        with (
            pytest.raises(InputError, match=rf"{path}: {message}.*: run `dvc repro train`"),
            open_sealed_h5(path, "numbers 1", REMEDY),
        ):
            pass
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BrokenSeal, match="expected a file"):
        check_seal(tmp_path / "pipe", "numbers 1")


def test_the_hdf5_library_never_sees_a_file_that_is_not_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.h5")
    data = bytearray(path.read_bytes())
    data[USER_BLOCK + 100] ^= 255
    path.write_bytes(data)

    def refuse(*arguments: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(InputError, match="damaged"), open_sealed_h5(path, "numbers 1", REMEDY):
        pass


def test_a_file_that_another_program_writes_to_is_not_called_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")
    with path.open("rb+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with (
            pytest.raises(InputError, match=r"a\.h5: open for writing in another program; close"),
            open_sealed_h5(path, "numbers 1", REMEDY),
        ):
            pass
    check_seal(path, "numbers 1")


def test_an_unchanged_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.h5")
    # One that was just written may change once more without its time showing it.
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))
    digest = check_seal(path, "numbers 1")
    with monkeypatch.context() as patch:
        patch.setattr(seal, "_check", None)
        assert check_seal(path, "numbers 1") == digest
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BrokenSeal):
        check_seal(path, "numbers 1")


def test_a_block_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="halfway"),
        create_sealed_h5(tmp_path / "a.h5", "numbers 1"),
    ):
        raise RuntimeError("halfway")
    assert list(tmp_path.iterdir()) == []


def test_json_begins_with_the_digest_of_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    for content in ({"a": "개", "b": [1.5, None]}, {"a": {"sha256": "x"}}, {}):
        write_sealed_json(path, content)
        assert read_sealed_json(path, REMEDY) == content
        start, line, rest = path.read_bytes().split(b"\n", 2)
        assert json.loads(path.read_text()) == {
            "sha256": hashlib.sha256(rest).hexdigest(),
            **content,
        }
        assert (start, line.strip()[:9]) == (b"{", b'"sha256":')


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"a": 1', '"a": 2', r"damaged or changed after it was written \(sha256\)"),
        ('"sha256"', '"sha257"', "expected JSON that begins with the sha256 of the rest"),
        (",", " ", "expected JSON that begins with the sha256 of the rest"),
    ],
)
def test_json_that_was_changed(tmp_path: Path, before: str, after: str, message: str) -> None:
    path = tmp_path / "card.json"
    write_sealed_json(path, {"a": 1})
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(InputError, match=rf"card\.json: .*{message}.*: run `dvc repro train`"):
        read_sealed_json(path, REMEDY)


def test_json_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    with pytest.raises(InputError, match=r"card\.json: no such file: run `dvc repro train`"):
        read_sealed_json(path, REMEDY)
    for rest, message in (('  "a": NaN\n}\n', "NaN is no number"), ('  "a": \n', "not valid JSON")):
        path.write_text(f'{{\n  "sha256": "{hashlib.sha256(rest.encode()).hexdigest()}",\n{rest}')
        with pytest.raises(InputError, match=message):
            read_sealed_json(path, REMEDY)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_sealed_json(path, {"a": float("nan")})
    with pytest.raises(ValueError, match="sha256 is what"):
        write_sealed_json(path, {"sha256": "x"})


def test_a_table_and_its_digest_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n")
    write_checksum(path)
    assert read_checked(path, REMEDY) == b"a,b\n1,2\n"
    done = subprocess.run(
        ["sha256sum", "--check", "table.csv.sha256"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "table.csv: OK\n"
    path.write_text("a,b\n1,3\n")
    with pytest.raises(InputError, match=r"table\.csv: its sha256 is not .*table\.csv\.sha256: .*"):
        read_checked(path, REMEDY)


def test_a_file_that_a_card_names(tmp_path: Path) -> None:
    path, card = tmp_path / "weights.h5", tmp_path / "head.json"
    path.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    require_digest(path, digest, card, REMEDY)
    with path.open("rb+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="open for writing in another program"):
            require_digest(path, digest, card, REMEDY)
    path.write_bytes(b"others!")
    with pytest.raises(InputError, match=rf"{path}: expected the file that {card} .* another: run"):
        require_digest(path, digest, card, REMEDY)
    path.unlink()
    with pytest.raises(InputError, match="received none: run `dvc repro train`"):
        require_digest(path, digest, card, REMEDY)
