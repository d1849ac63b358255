"""reference/params.md: generated, in both languages, and of every param that there is."""

from pathlib import Path

from ruamel.yaml import YAML

from docs import reference
from docs.sandbox import ROOT


def test_it_is_what_the_code_says(tmp_path: Path) -> None:
    for language in reference.WORDS:
        (tmp_path / language / "reference").mkdir(parents=True)
    reference.write(tmp_path)
    for language in reference.WORDS:
        page = Path(language, "reference", "params.md")
        assert (ROOT / "docs" / page).read_text(encoding="utf-8") == (tmp_path / page).read_text(
            encoding="utf-8"
        ), f"docs/{page} is stale: python -m docs.make reference"


def test_nothing_is_told_of_params_that_are_not_there() -> None:
    told = YAML(typ="safe").load(ROOT / "docs" / "effects.yaml")
    known = set(reference.keys())
    assert {(kind, name) for kind, names in told.items() for name in names if name} == known
