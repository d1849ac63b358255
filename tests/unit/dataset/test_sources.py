"""Folders and tables of the user's photos: what is found, and what is told."""

import os
import unicodedata
from pathlib import Path

import pytest

from headstart.common.errors import InputError
from headstart.dataset.listing import SourceFile
from headstart.dataset.sources import list_files


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(b"x")
    return root


def found(root: Path) -> list[tuple[str, str, str | None]]:
    return [
        (Path(file.path).relative_to(root).as_posix(), file.label, file.split)
        for file in list_files(str(root)).files
    ]


def test_a_folder_per_class_with_all_that_lies_below(tmp_path):
    make(tmp_path, "cat/b.jpg", "cat/old photos/a.JPG", "dog/고양이 1.png", "dog/notes.txt")
    assert found(tmp_path) == [
        ("cat/b.jpg", "cat", None),
        ("cat/old photos/a.JPG", "cat", None),
        ("dog/notes.txt", "dog", None),
        ("dog/고양이 1.png", "dog", None),
    ]


def test_hidden_files_and_what_systems_leave_are_ignored(tmp_path):
    make(tmp_path, "cat/a.jpg", "cat/.DS_Store", ".git/x.jpg", "dog/b.jpg", "dog/.hidden/c.jpg")
    make(tmp_path, "__MACOSX/cat/a.jpg", "cat/Thumbs.db")
    assert [name for name, _, _ in found(tmp_path)] == ["cat/a.jpg", "dog/b.jpg"]


def test_files_in_no_class_folder_are_listed_without_a_label(tmp_path):
    make(tmp_path, "loose.jpg", "cat/a.jpg", "dog/b.jpg")
    assert found(tmp_path)[-1] == ("loose.jpg", "", None)
    split = make(tmp_path / "split", "train/loose.jpg", "train/cat/a.jpg", "test/cat/b.jpg")
    assert ("train/loose.jpg", "", "train") in found(split)


@pytest.mark.parametrize("train", ["train", "Training", "TRAIN"])
@pytest.mark.parametrize("validation", ["validation", "val", "Valid", "dev"])
@pytest.mark.parametrize("test", ["test", "Testing", "eval", "evaluation"])
def test_a_folder_that_is_already_split(tmp_path, train, validation, test):
    make(tmp_path, f"{train}/cat/a.jpg", f"{train}/dog/b.jpg", f"{test}/dog/d.jpg")
    make(tmp_path, f"{validation}/cat/deep/c.jpg", "@eaDir/cat/thumbnail.jpg")
    assert set(found(tmp_path)) == {
        (f"{train}/cat/a.jpg", "cat", "train"),
        (f"{train}/dog/b.jpg", "dog", "train"),
        (f"{validation}/cat/deep/c.jpg", "cat", "validation"),
        (f"{test}/dog/d.jpg", "dog", "test"),
    }


@pytest.mark.parametrize(
    "names",
    [
        ("train/a.jpg", "bus/b.jpg", "test/c.jpg"),
        ("train/city/a.jpg", "bus/city/b.jpg", "tram/city/c.jpg"),
        ("test_tube/a.jpg", "train_station/b.jpg"),
        ("cat/2021/a.jpg", "dog/2021/b.jpg"),
        ("dev/a.jpg", "test/b.jpg"),
    ],
)
def test_classes_may_be_called_like_splits(tmp_path, names):
    make(tmp_path, *names)
    assert {label for _, label, _ in found(tmp_path)} == {name.split("/")[0] for name in names}
    assert {split for _, _, split in found(tmp_path)} == {None}


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train", "test", "logs"), "test, train look like splits .*: cat, dog.* but logs beside"),
        (("valid", "test"), "test, valid look like splits .* but none of them is for training"),
        (("train2017", "val2017"), "what train2017, val2017 stands for is a guess"),
        (("images_train", "images_test", "logs"), "images_test, images_train look like splits"),
        (("학습 데이터", "검증"), "look like splits"),
        (("train", "trainset", "test"), "what trainset stands for is a guess"),
        (("photos/train", "photos/test"), "photos would be a class, .* Name .*photos itself"),
        (("a/Train", "a/Valid", "b/x"), "a would be a class, but holds the splits Train, Valid"),
    ],
)
def test_splits_that_would_become_classes_stop(tmp_path, folders, message):
    """Their scores would be of nothing: every image of a class would look like the others'."""
    for folder in folders:
        make(tmp_path, *(f"{folder}/{name}/a.jpg" for name in ("cat", "dog")))
    with pytest.raises(InputError, match=rf"prepare.source: .*{message}.* .csv with the columns"):
        list_files(str(tmp_path))


def test_splits_inside_of_classes_stop(tmp_path):
    make(tmp_path, *(f"{c}/{s}/a.jpg" for c in ("cat", "dog") for s in ("train", "test")))
    with pytest.raises(InputError, match="cat would be a class, but holds the splits test, train"):
        list_files(str(tmp_path))


def test_a_class_name_that_breaks_lines_stops(tmp_path):
    make(tmp_path, "cat\nfish/a.jpg", "dog/b.jpg")
    with pytest.raises(InputError, match=r"cat\\nfish' holds a control character or line break"):
        list_files(str(tmp_path))


def test_labels_are_composed_and_paths_stay_as_they_are(tmp_path):
    decomposed = unicodedata.normalize("NFD", "고양이")
    make(tmp_path, f"{decomposed}/a.jpg", "개/b.jpg")
    (name, label, _), _ = found(tmp_path)
    assert label == "고양이" != decomposed
    assert name.startswith(decomposed)


def test_links_are_followed_but_not_in_circles(tmp_path):
    make(tmp_path / "elsewhere", "a.jpg")
    root = make(tmp_path / "root", "dog/b.jpg", "cat/")
    (root / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "up").symlink_to(root)
    (root / "dog" / "circle").symlink_to(root / "dog")
    (root / "dog" / "self").symlink_to("self")
    (root / "dog" / "broken.jpg").symlink_to("gone")
    names = [name for name, _, _ in found(root)]
    assert names == ["cat/more/a.jpg", "dog/b.jpg", "dog/broken.jpg", "dog/self"]


def test_empty_class_folders_are_told(tmp_path):
    make(tmp_path, "cat/a.jpg", "dog/b.jpg", "fox/", "wolf/.DS_Store")
    assert list_files(str(tmp_path)).empty_classes == (
        (tmp_path / "fox").as_posix(),
        (tmp_path / "wolf").as_posix(),
    )


def test_paths_are_relative_when_the_source_is(tmp_path, monkeypatch):
    make(tmp_path, "photos/cat/a.jpg", "photos/dog/b.jpg", "photos/list.csv")
    (tmp_path / "photos" / "list.csv").write_text("path,label\ncat/a.jpg,cat\n./dog/b.jpg,dog\n")
    monkeypatch.chdir(tmp_path)
    names = ["photos/cat/a.jpg", "photos/dog/b.jpg"]
    assert [file.path for file in list_files("photos/list.csv").files] == names
    (tmp_path / "photos" / "list.csv").unlink()
    assert [file.path for file in list_files("photos").files] == names
    assert [file.path for file in list_files("./photos/").files] == names
    absolute = [file.path for file in list_files(str(tmp_path / "photos")).files]
    assert absolute == [f"{tmp_path}/{name}" for name in names]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [file.path for file in list_files("~/photos").files] == absolute


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "is an empty folder. Expected a folder with one sub-folder per class"),
        (["a.jpg", "b.jpg"], "is 2 files but no sub-folder. Expected a folder with one"),
        (["cat/", "dog/"], "no file in the sub-folders of"),
        (["train/cat/a.jpg", "val/cat/b.jpg", "validation/cat/c.jpg"], "one folder per split"),
        (["train/a.jpg", "test/b.jpg"], "train holds no class folder"),
    ],
)
def test_folders_of_no_known_layout(tmp_path, names, message):
    with pytest.raises(InputError, match=f"prepare.source: .*{message}"):
        list_files(str(make(tmp_path, *names)))


def test_a_source_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"photos does not exist \(looked for {tmp_path}/photos"):
        list_files("photos")
    make(tmp_path, "photos.zip")
    with pytest.raises(InputError, match=r"photos\.zip is a file. Expected a folder"):
        list_files("photos.zip")


def test_a_folder_that_may_not_be_listed(tmp_path):
    make(tmp_path, "cat/a.jpg", "dog/b.jpg")
    (tmp_path / "dog").chmod(0)
    parents = [path for path in (tmp_path, *tmp_path.parents) if path != Path("/")]
    modes = {path: path.stat().st_mode for path in parents}
    privileged = os.geteuid() == 0
    if privileged:  # permissions do not bind root, so become somebody else who gets thus far
        for path in parents:
            path.chmod(modes[path] | 0o755)
        os.seteuid(65534)
    try:
        with pytest.raises(InputError, match="dog: no permission to list this folder"):
            list_files(str(tmp_path))
    finally:
        if privileged:
            os.seteuid(0)
            for path in parents:
                path.chmod(modes[path] & 0o7777)
        (tmp_path / "dog").chmod(0o755)


def write_table(tmp_path: Path, text: str, encoding: str = "utf-8") -> str:
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode(encoding))
    return str(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_table_with_all_columns(tmp_path, encoding, newline):
    lines = [
        "path, label,group,split,photographer",
        '"b, 1.jpg",고양이,g1,val,Kim',
        f"{tmp_path}/else/a.jpg,dog,,,Lee",
        "c.jpg,dog,g1,Test,",
        "",
    ]
    listing = list_files(write_table(tmp_path, newline.join(lines), encoding))
    assert listing.column_names == ("photographer",)
    assert listing.files == (
        SourceFile(f"{tmp_path}/b, 1.jpg", "고양이", "validation", "g1", True, ("Kim",)),
        SourceFile(f"{tmp_path}/c.jpg", "dog", "test", "g1", True, ("",)),
        SourceFile(f"{tmp_path}/else/a.jpg", "dog", None, "", True, ("Lee",)),
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_a_table_as_spreadsheets_of_other_countries_write_it(tmp_path, encoding, delimiter):
    make(tmp_path, "고양이/a.jpg")
    lines = ["Label,Path,SPLIT", "고양이,고양이\\a.jpg,Valid", '"small dog",b.jpg,', ",,", ""]
    text = "\r\n".join(lines).replace(",", delimiter)
    assert list_files(write_table(tmp_path, text, encoding)).files == (
        SourceFile(f"{tmp_path}/b.jpg", "small dog", None, listed=True),
        SourceFile(f"{tmp_path}/고양이/a.jpg", "고양이", "validation", listed=True),
    )


def test_a_table_finds_files_whose_names_are_spelt_decomposed(tmp_path):
    decomposed = unicodedata.normalize("NFD", "강아지.jpg")
    (tmp_path / decomposed).write_bytes(b"x")
    (file,) = list_files(write_table(tmp_path, "path,label\n강아지.jpg,dog\n")).files
    assert file.path == f"{tmp_path}/{decomposed}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected one column 'path' .*, received an empty file"),
        ("file,label\na.jpg,cat\n", "expected one column 'path' .*, received file,label"),
        ("path:label\na.jpg:cat\n", "expected one column 'path' .*, received path:label"),
        ("path,class\na.jpg,cat\n", "expected one column 'label' .*, received path,class"),
        ("path,label,label\na.jpg,cat,dog\n", "expected one column 'label'"),
        ("path,label\n", "no line below the header"),
        ("path,label\na.jpg,cat\n,dog\n", "line 3: path is empty"),
        ("path,label\na.jpg\n", "line 2: label is empty"),
        ("path,label\na.jpg,cat,train\n", "line 2: more values than columns"),
        ("path,label,split\na.jpg,cat,b\n", "line 2: split: expected one of train.*received 'b'"),
        ('path,label\na.jpg,"cat\nb.jpg,dog\nc.jpg,cat', "no CSV: unexpected end of data"),
        ('path,label\na.jpg,"cat\nb.jpg",dog\n', "line 3: more values than columns"),
        ('path,label\na.jpg,"cat\nb.jpg"\n', "line 3: label holds a control character or line"),
        ("path,label\na\x00.jpg,cat\n", "line 2: path holds a control character"),
        ("path,label,group\na.jpg,cat,g\x1b[1m\n", "line 2: group holds a control character"),
        ("path,label\na.jpg,cat\n./a.jpg,dog\n", "line 3: .*a.jpg was listed in line 2 already"),
        ("path,label\n" + "a" * 200_000 + ",cat\n", "no CSV: field larger than"),
    ],
)
def test_a_table_that_is_wrong(tmp_path, text, message):
    with pytest.raises(InputError, match=rf"list\.csv.*{message}"):
        list_files(write_table(tmp_path, text))


def test_a_table_in_another_encoding(tmp_path):
    with pytest.raises(InputError, match="expected UTF-8, received the byte 0xb0. Save it as CSV"):
        list_files(write_table(tmp_path, "path,label\n강아지.jpg,dog\n", "cp949"))
