"""The table of images: what is written is read back, and nothing else is accepted."""

import numpy as np
import pytest

from headstart.common.errors import InputError
from headstart.common.seal import write_checksum
from headstart.dataset.manifest import Manifest, ManifestRow, read_manifest, write_manifest

SHA = "0123456789abcdef" * 4
HEADER = "path,sha256,label,split,group,width,height,correction,given_label\n"
ROWS = [
    ManifestRow("photos/개/b, c.jpg", SHA, "개", "test", "family 1", 30, 20),
    ManifestRow('photos/cat/a "1".jpg', SHA, "cat", "train", "", 10, 2),
    ManifestRow("photos/cat/z.jpg", SHA, "cat", "validation", "family 1", 1, 1),
]


def test_rows_come_back_sorted_whatever_their_names(tmp_path):
    path = tmp_path / "data" / "manifest.csv"
    write_manifest(path, Manifest(ROWS))
    assert read_manifest(path).rows == tuple(sorted(ROWS))
    before = path.read_bytes()
    write_manifest(path, Manifest(reversed(ROWS)))
    assert path.read_bytes() == before
    assert b"\r" not in before


def test_classes_and_groups_are_numbered_in_order_of_their_names():
    manifest = Manifest(ROWS)
    assert len(manifest) == 3
    assert [row.path for row in manifest] == sorted(row.path for row in ROWS)
    assert manifest.class_names == ("cat", "개")
    np.testing.assert_array_equal(manifest.labels, [0, 0, 1])
    np.testing.assert_array_equal(manifest.groups, [-1, 0, 0])
    assert manifest.labels.dtype == manifest.groups.dtype == np.int64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns path,.*, received an empty file"),
        ("path,label\n", "expected the columns path,sha256,.*, received path,label"),
        (HEADER, "no image"),
        (HEADER + "a.jpg\n", "line 2: expected 9 values, received 1"),
        (HEADER + f"a.jpg,{SHA},,train,,1,1,,\n", "line 2: path and label may not be empty"),
        (HEADER + "a.jpg,abc,cat,train,,1,1,,\n", "sha256: expected 64 hex.*, received 'abc'"),
        (
            HEADER + f"a.jpg,{SHA},cat,val,,1,1,,\n",
            "split: expected one of train.*, received 'val'",
        ),
        (HEADER + f"a.jpg,{SHA},cat,train,,0,1,,\n", "width and height: .*, received '0' and '1'"),
        (HEADER + f"a.jpg,{SHA},cat,train,,1,²,,\n", "width and height: .*, received '1' and '²'"),
        (HEADER + f"a.jpg,{SHA},cat,train,,1,1,drop,\n", "correction: expected .*'drop'"),
        (HEADER[:-1] + ",view,view\n", "expected the columns path,.* and those of the source"),
        (HEADER + f"a.jpg,{SHA},cat,train,,1,1,,\n" * 2, "a.jpg is listed twice"),
    ],
)
def test_a_table_that_was_not_written_here_is_refused(tmp_path, text, message):
    path = tmp_path / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    write_checksum(path)
    with pytest.raises(InputError, match=f"manifest.csv.*{message}.*Run `dvc repro prepare`"):
        read_manifest(path)


def test_a_missing_table_says_how_to_make_it(tmp_path):
    with pytest.raises(InputError, match=r"manifest.csv: no such file: run `dvc repro prepare`"):
        read_manifest(tmp_path / "manifest.csv")


def test_a_table_without_its_digest_or_with_another_is_refused(tmp_path):
    path = tmp_path / "manifest.csv"
    write_manifest(path, Manifest(ROWS))
    path.write_bytes(path.read_bytes().replace(b",test,", b",train,"))
    with pytest.raises(InputError, match=r"manifest.csv: its sha256 is not .*`dvc repro prepare`"):
        read_manifest(path)
    (tmp_path / "manifest.csv.sha256").unlink()
    with pytest.raises(InputError, match=r"manifest.csv.sha256: no such file: run `dvc"):
        read_manifest(path)


def test_rows_are_made_when_they_are_asked_for(tmp_path):
    rows = [
        ManifestRow("a.jpg", SHA, "b", "dropped", "", 1, 2, columns=("yard", "1")),
        ManifestRow("b.jpg", SHA[::-1], "b", "train", "g", 3, 4, "relabel", "a", ("", "2")),
        ManifestRow("c.jpg", SHA, "a", "test", "", 5, 6, "keep", "", ("yard", "3")),
    ]
    path = tmp_path / "manifest.csv"
    write_manifest(path, Manifest(rows, ("camera", "number")))
    manifest = read_manifest(path)
    assert manifest.rows == rows
    assert manifest.rows != rows[:2]
    assert list(manifest) == [manifest.rows[index] for index in (0, 1, -1)] == rows
    assert manifest.rows[1:] == tuple(rows[1:])
    assert manifest.column_names == ("camera", "number")
    assert manifest.in_use == (1, 2)
    assert manifest.sha256.tolist() == [row.sha256 for row in rows]
    assert manifest.split.tolist() == ["dropped", "train", "test"]


def test_the_line_of_a_problem_is_that_of_the_file(tmp_path):
    path = tmp_path / "manifest.csv"
    lines = [f'"{number:05}\n.jpg",{SHA},cat,train,,1,1,,\n' for number in range(9000)]
    path.write_text(HEADER + "".join(lines) + f"z.jpg,{SHA},cat,val,,1,1,,\n", encoding="utf-8")
    write_checksum(path)
    with pytest.raises(InputError, match="line 18002: split: expected one of train"):
        read_manifest(path)
