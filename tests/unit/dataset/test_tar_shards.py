"""Tar shards are listed by their headers, and a member is read where it lies."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from headstart.common import tar_index
from headstart.common.errors import InputError
from headstart.dataset.file_states import state_of
from headstart.dataset.listing import SourceFile
from headstart.dataset.sources import list_files
from headstart.dataset.tar_shards import expand_braces
from headstart.images import decoding
from headstart.images.decoding import UnreadableImage, UnusableImage


def pack(path: Path, members: Mapping[str, bytes | str], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("s3://b/{x,y}-{1..2}.tar", [f"s3://b/{x}-{n}.tar" for x in "xy" for n in "12"]),
        ("{2..0}.tar", ["2.tar", "1.tar", "0.tar"]),
        ("odd{name}.tar", ["odd{name}.tar"]),
    ],
)
def test_braces(source: str, names: list[str]) -> None:
    assert expand_braces(source) == names


def test_a_name_that_is_there_is_no_pattern(tmp_path: Path) -> None:
    path = pack(tmp_path / "{1,2}.tar", {"a.jpg": b"a", "a.cls": "x"})
    assert expand_braces(str(path)) == [str(path)]


def test_samples_become_rows(tmp_path: Path) -> None:
    pack(
        tmp_path / "0.tar",
        {
            "b/001.jpg": b"one",
            "b/001.cls": "7\n",
            "002.json": json.dumps(
                {"label": 3, "split": "val", "group": "g", "camera": "Nikon\n D3", "box": [1]}
            ),
            "002.png": b"two",
            "readme.txt": "no sample",
        },
    )
    pack(tmp_path / "1.tar", {"../up.jpeg": b"three", "../up.json": '{"label": "cat"}'})
    listing = list_files(f"{tmp_path}/{{0..1}}.tar")
    assert listing.column_names == ("camera",)
    assert listing.files == (
        SourceFile(f"{tmp_path}/0.tar/002.png", "3", "validation", "g", True, ("Nikon D3",)),
        SourceFile(f"{tmp_path}/0.tar/b/001.jpg", "7", None, "", True, ("",)),
        SourceFile(f"{tmp_path}/1.tar/../up.jpeg", "cat", None, "", True, ("",)),
    )
    assert [decoding.read(file.path) for file in listing.files] == [b"two", b"one", b"three"]


def test_names_as_tar_writes_those_of_a_folder(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {"./a/1.jpg": b"one", "./a/1.cls": "cat"}
    members |= {"/b//2.jpg": b"two", "/b//2.json": '{"label": "dog"}'}
    listing = list_files(str(pack(tmp_path / "0.tar", members)))
    assert listing.files == (
        SourceFile(f"{tmp_path}/0.tar/a/1.jpg", "cat", None, "", True),
        SourceFile(f"{tmp_path}/0.tar/b/2.jpg", "dog", None, "", True),
    )
    assert [decoding.read(file.path) for file in listing.files] == [b"one", b"two"]


def test_states_change_with_the_tar(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", {"1.jpg": b"1", "2.jpg": b"2"})
    one, two = state_of(f"{path}/1.jpg"), state_of(f"{path}/2.jpg")
    assert one is not None
    assert one != two
    assert one == state_of(f"{path}/1.jpg")
    pack(path, {"1.jpg": b"1", "2.jpg": b"3"})
    assert state_of(f"{path}/1.jpg") != one
    assert decoding.read(f"{path}/2.jpg") == b"3"
    assert state_of(f"{tmp_path}/none.tar/1.jpg") is None


def test_headers_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    path = pack(tmp_path / "a.tar", {"1.jpg": b"1", "1.cls": "x"})
    listing = list_files(str(path))
    monkeypatch.setattr(tar_index, "_walk", None)
    assert list_files(str(path)) == listing
    tar_index._indices.clear()
    assert list_files(str(path)) == listing


def test_a_member_that_is_gone(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", {"1.jpg": b"1", "1.cls": "x"})
    with pytest.raises(UnreadableImage, match="no such file"):
        decoding.read(f"{path}/2.jpg")
    with pytest.raises(UnusableImage, match="a.tar/1.jpg: the file has changed"):
        decoding.read_checked(f"{path}/1.jpg", "0" * 64)
    with pytest.raises(UnreadableImage, match="Not a directory"):
        decoding.read(f"{__file__}/1.jpg")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"1.jpg": b"1"}, "the sample '1' has no label. Expected 1.cls, or 1.json"),
        ({"1.cls": "x"}, "no photo among its 1 file"),
        ({"1.jpg": b"1", "1.json": "{"}, "1.json: no JSON"),
        ({"1.jpg": b"1", "1.json": "[1]"}, "1.json: expected an object, received list"),
        ({"1.jpg": b"1", "1.json": '{"label": 1.5}'}, "expected a text or a whole number"),
        ({"1.jpg": b"1", "1.json": '{"label": true}'}, "a whole number, received True"),
        ({"1.jpg": b"1", "1.json": '{"label": "a"}', "1.cls": "b"}, "1.cls says 'b' and"),
        ({"1.jpg": b"1", "1.cls": "x", "1.json": '{"split": "odd"}'}, "split: expected one of"),
        ({"1.jpg": b"1", "1.cls": "a\x07b"}, "1.cls holds a control character"),
        ({"1\n.jpg": b"1", "1\n.cls": "x"}, r"the name '1\\n.\w+' holds a control character"),
        ({"1.jpg": b"1", "1.cls": b"\xff"}, "'1.cls' is not UTF-8"),
        ({"1.jpg": b"1", "1.json": b" " * (2**20 + 1)}, "at most 1,048,576 are read"),
    ],
)
def test_what_a_tar_says_wrongly(
    tmp_path: Path, members: dict[str, bytes | str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        list_files(str(pack(tmp_path / "a.tar", members)))


def test_two_members_of_one_name(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", {"1.jpg": b"1", "1.cls": "x"})
    pack(path, {"1.jpg": b"2"}, "a")
    with pytest.raises(InputError, match="a.tar: holds '1.jpg' twice"):
        list_files(str(path))


def test_tars_that_are_none(tmp_path: Path) -> None:
    packed = pack(tmp_path / "a.tar.gz", {"1.jpg": b"1"}, "w:gz")
    with pytest.raises(InputError, match="prepare.source: .*a.tar.gz is a compressed tar"):
        list_files(str(packed))
    packed.rename(tmp_path / "a.tar")
    with pytest.raises(InputError, match="a.tar: a compressed tar, whose members cannot"):
        list_files(str(tmp_path / "a.tar"))
    (tmp_path / "b.tar").write_bytes(b"x" * 2000)
    with pytest.raises(InputError, match="b.tar: no tar, or a damaged one"):
        list_files(str(tmp_path / "b.tar"))
    whole = pack(tmp_path / "c.tar", {"1.jpg": b"1" * 5000, "1.cls": "x"}).read_bytes()
    (tmp_path / "c.tar").write_bytes(whole[:3000])
    with pytest.raises(InputError, match="c.tar: no tar, or a damaged one"):
        list_files(str(tmp_path / "c.tar"))
    with pytest.raises(InputError, match="d.tar cannot be read.*No such file"):
        list_files(str(tmp_path / "d.tar"))


def test_a_folder_named_like_a_tar_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "photos.tar/cat").mkdir(parents=True)
    (tmp_path / "photos.tar/cat/1.jpg").write_bytes(b"1")
    (file,) = list_files(str(tmp_path / "photos.tar")).files
    assert file.label == "cat"
    assert decoding.read(file.path) == b"1"
