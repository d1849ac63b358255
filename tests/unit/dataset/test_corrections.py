"""A table of corrections: what it may say, and what becomes of an image."""

from pathlib import Path

import pytest

from headstart.common.errors import InputError
from headstart.dataset.corrections import Correction, check_trained, corrected, read_corrections
from headstart.dataset.manifest import ManifestRow

A, B, C = "a" * 64, "b" * 64, "c" * 64


def write(folder: Path, text: str, encoding: str = "utf-8") -> str:
    path = folder / "corrections.csv"
    path.write_bytes(text.encode(encoding))
    return str(path)


def row(label: str = "cat", split: str = "train", sha256: str = A) -> ManifestRow:
    return ManifestRow("photos/1.jpg", sha256, label, split, "", 8, 8)


def test_no_corrections(tmp_path):
    assert read_corrections(None) == ()
    assert read_corrections(write(tmp_path, "sha256,action,label,note\n")) == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_spreadsheets_make_of_it_is_read(tmp_path, encoding, delimiter):
    lines = ["path,Action,SHA256,note,label", f"x.jpg,Relabel,{A.upper()},a dog,강아지"]
    lines += [f"y.jpg,keep,{B},,", f",drop,{C},blurred,", ",,,,", f"copy.jpg,keep,{B},again,", ""]
    text = "\r\n".join(lines).replace(",", delimiter)
    assert read_corrections(write(tmp_path, text, encoding)) == (
        Correction(A, "relabel", "강아지", "a dog", 2),
        Correction(B, "keep", "", "", 3),
        Correction(C, "drop", "", "blurred", 4),
    )


def test_a_table_at_home_or_beside_the_project(tmp_path, monkeypatch):
    write(tmp_path, f"sha256,action\n{A},drop\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_corrections("corrections.csv") == read_corrections("~/corrections.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected one column 'sha256' .*, received an empty file"),
        (f"path,action\n{A},drop\n", "expected one column 'sha256' .*, received path,action"),
        (f"sha256,action\n{A},delete\n", "line 2: action: expected one of keep, .*'delete'"),
        (f"sha256,action\n{A},\n", "line 2: action: expected one of .*received ''"),
        ("sha256,action\nabc,drop\n", "line 2: sha256: expected 64 .*received 'abc'.*manifest"),
        (f"sha256,action\n{A},relabel\n", "line 2: label: expected the right label.*nothing"),
        (
            f"sha256,action,label\n{A},drop,\n{A},relabel,dog\n",
            "line 3: relabel 'dog', but line 2 says drop of the same image",
        ),
        (f"sha256,action,label\n{A},relabel,d\x1bg\n", "line 2: label holds a control character"),
        (f"sha256,action,note\n{A},drop,\x00\n", "line 2: note holds a control character"),
        (f"sha256,action\n{A},drop,\n", "line 2: more values than columns"),
    ],
)
def test_a_table_that_is_wrong(tmp_path, text, message):
    with pytest.raises(InputError, match=rf"corrections\.csv.*{message}"):
        read_corrections(write(tmp_path, text))


@pytest.mark.parametrize("name", ["gone.csv", ".", "~nobody-at-all/x.csv", "a\0b"])
def test_a_table_that_is_not_there(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^prepare\.corrections: .* is no file .*null for none"):
        read_corrections(name)


def test_what_becomes_of_an_image():
    assert corrected(row(), None) == row()
    kept = row()._replace(correction="keep")
    assert corrected(row(), Correction(A, "keep", "", "", 2)) == kept
    assert corrected(row(), Correction(A, "keep", "cat", "", 2)) == kept
    # The photo has been moved to the right folder since.
    assert corrected(row("dog"), Correction(A, "relabel", "dog", "", 2)) == kept._replace(
        label="dog"
    )
    changed = corrected(row(), Correction(A, "relabel", "dog", "", 2))
    assert changed == row("dog")._replace(correction="relabel", given_label="cat")
    assert (changed.source_label, kept.source_label) == ("cat", "cat")
    loose = corrected(row(""), Correction(A, "relabel", "dog", "", 2))
    assert (loose.label, loose.source_label) == ("dog", "")
    dropped = corrected(row(split="test"), Correction(A, "drop", "", "", 2))
    assert (dropped.split, dropped.source_split, dropped.label) == ("dropped", "test", "cat")


def test_a_label_is_kept_only_where_it_stands():
    with pytest.raises(InputError, match=r"line 7: keeps the label 'dog' of photos/1\.jpg.*'cat'"):
        corrected(row(), Correction(A, "keep", "dog", "", 7))


def test_every_class_keeps_something_to_train_on():
    rows = [row(), row("dog"), row("dog", "test")]
    check_trained(rows)
    with pytest.raises(InputError, match="class 'bird' has no training image.*1 images.* for test"):
        check_trained([*rows, row("bird", "test")])
