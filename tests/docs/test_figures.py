"""The figures: what is committed is what the script draws, and can be read on a telephone."""

import re
from xml.etree import ElementTree

import pytest

from docs.figures import FIGURES, PICTURES, WIDTH

SVG = "{http://www.w3.org/2000/svg}"
SMALLEST = 11
"""Units of text; 360 of them are as wide as a telephone shows a figure."""


@pytest.mark.parametrize("name", FIGURES)
def test_the_committed_file_is_what_is_drawn(name: str) -> None:
    assert (PICTURES / name).read_text(encoding="utf-8") == FIGURES[name]().svg(), (
        "run `python -m docs.make figures`"
    )


def test_no_figure_is_left_that_nobody_draws() -> None:
    assert {path.name for path in PICTURES.glob("zoo-*.svg")} == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_text_is_legible_and_english_and_lies_within(name: str) -> None:
    root = ElementTree.fromstring(FIGURES[name]().svg())
    height = float(root.get("viewBox", "").split()[3])
    texts = list(root.iter(f"{SVG}text"))
    assert texts
    for text in texts:
        assert float(text.get("font-size", 0)) >= SMALLEST
        assert not re.search("[가-힣]", text.text or "")
        assert 0 < float(text.get("x", -1)) < WIDTH
        assert 0 < float(text.get("y", -1)) < height
