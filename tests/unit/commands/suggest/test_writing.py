"""The table of suggestions: which file it replaces, how it names files."""

from pathlib import Path

import pytest

from headstart.commands.suggest.writing import (
    Suggestion,
    path_in_table,
    refuse_to_overwrite,
    why_not_listed,
    write_suggestions,
)
from headstart.common.errors import InputError
from headstart.dataset.sources import list_files


def _one(path: str = "a.jpg") -> Suggestion:
    return Suggestion(path, "", 1, "typical", "cat", "0.9000", "0" * 64)


def test_only_suggestions_without_a_label_are_replaced(tmp_path: Path) -> None:
    table = tmp_path / "suggestions.csv"
    refuse_to_overwrite(table)
    write_suggestions(table, [_one(), _one("b.jpg")])
    refuse_to_overwrite(table)
    text = table.read_text()
    # As spreadsheets of several countries save it.
    filled = text.replace("b.jpg,,", "b.jpg,dog,")
    for saved in (
        filled.encode(),
        filled.encode("utf-8-sig"),
        filled.encode("utf-16"),
        filled.replace(",", ";").encode(),
        filled.replace("\n", "\r\n").encode(),
    ):
        table.write_bytes(saved)
        with pytest.raises(InputError, match="received one with 1 labels filled in") as refused:
            refuse_to_overwrite(table)
        assert "--overwrite" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"path,label\na.jpg,\n", b"\xff\x00\xfe"])
def test_other_files_are_not_replaced(content: bytes, tmp_path: Path) -> None:
    table = tmp_path / "suggestions.csv"
    table.write_bytes(content)
    with pytest.raises(InputError, match="received another file"):
        refuse_to_overwrite(table)


def test_a_table_names_files_so_that_a_source_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("new photos", "elsewhere/deep"):
        Path(folder).mkdir(parents=True)
    Path("link").symlink_to("elsewhere/deep")
    Path("new photos/고양이, 1.jpg").touch()
    for place in (".", "new photos", "elsewhere/deep", "link"):
        table = Path(place) / "suggestions.csv"
        for path in ("new photos/고양이, 1.jpg", str(Path("new photos/고양이, 1.jpg").absolute())):
            name = path_in_table(path, table)
            assert Path(name).is_absolute() == Path(path).is_absolute()
            write_suggestions(table, [_one(name)._replace(label="cat")])
            (file,) = list_files(str(table)).files
            assert Path(file.path).samefile(path)
            assert file.label == "cat"


def test_urls_stand_in_a_table_as_they_are() -> None:
    assert path_in_table("s3://b/1.jpg", Path("deep/suggestions.csv")) == "s3://b/1.jpg"


def test_names_that_no_table_can_hold_are_told() -> None:
    assert why_not_listed("a/ordinary name.jpg") == ""
    assert "control character" in why_not_listed("a\nb.jpg")
    assert "UTF-8" in why_not_listed("caf\udce9.jpg")
    assert "space" in why_not_listed("a.jpg ")
