"""The pages as a whole: both languages alike, nothing shown that nobody ran, no broken link."""

import re
from pathlib import Path

import pytest

from docs.make import DOCS, translation
from docs.sandbox import ROOT
from docs.transcripts import blocks

EN = DOCS / "en"
PAGES = sorted(EN.rglob("*.md"))
SHOWN = {"text", "mermaid", "{toctree}"}
"""Languages of blocks that show nothing to run."""


def _ids(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


def _outside_fences(page: str) -> str:
    return re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)


def _links(page: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", _outside_fences(page))


def _headings(page: str) -> list[int]:
    return [len(match) for match in re.findall(r"^(#+) ", _outside_fences(page), re.MULTILINE)]


def test_both_languages_have_the_same_pages() -> None:
    english = {path.relative_to(EN) for path in PAGES}
    korean = {path.relative_to(DOCS / "ko") for path in (DOCS / "ko").rglob("*.md")}
    assert english == korean


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md"], ids=lambda path: path.name)
def test_a_korean_page_says_what_the_english_one_does(path: Path) -> None:
    english = path.read_text(encoding="utf-8")
    korean = translation(path).read_text(encoding="utf-8")
    assert [block.text for block in blocks(korean) if block.kind != "shown"] == [
        block.text for block in blocks(english) if block.kind != "shown"
    ]
    assert _headings(korean) == _headings(english)
    for link in _links(english):
        # A picture that holds words is another one in each language.
        link = re.sub(r"-en\.(png|svg)", r"-ko.\1", link).replace("docs/en/", "docs/ko/")
        link = "README.md" if link == "README.ko.md" else link
        assert "#" in link or link in _links(korean), f"{translation(path)}: lacks the link {link}"
    syllables = re.findall(r"[가-힣]", _outside_fences(korean))
    assert len(syllables) > len(re.findall(r"[A-Za-z]", _outside_fences(english))) / 8


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md"], ids=lambda path: path.name)
def test_every_block_is_run_or_says_why_not(path: Path) -> None:
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.kind == "shown":
            assert block.language in SHOWN or (block.mark == "not run" and block.reason), (
                f"{path.name}: name the file first, or say why it is not run:\n{block.text}"
            )
        if block.mark == "not run":
            assert block.reason, f"{path.name}: `<!-- not run: reason -->`"


@pytest.mark.parametrize(
    "path", [*DOCS.rglob("*.md"), *ROOT.glob("*.md")], ids=lambda path: path.name
)
def test_every_file_that_a_page_links_to_is_there(path: Path) -> None:
    for link in _links(path.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:|#", link):
            assert (path.parent / link.split("#")[0]).exists(), f"{path}: no such file: {link}"
