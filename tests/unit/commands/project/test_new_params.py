from pathlib import Path

import pytest
from ruamel.yaml import YAML

from headstart.commands.project.new_params import add_missing
from headstart.configuration.params import Params

TEMPLATE = (Path(__file__).parents[4] / "params.yaml").read_text()
ALL = set(Params.model_fields)
NOVELTY_KEEP = "  keep: 0.99"
"""How the one line of the section `novelty` begins."""


def load(text: str) -> dict:
    return YAML(typ="safe").load(text)


def without(*starts: str) -> str:
    """Return the template without the lines that start so."""
    lines = TEMPLATE.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(starts)]
    assert len(kept) == len(lines) - len(starts)
    return "".join(kept)


def test_a_complete_file_stays_as_it_is() -> None:
    assert add_missing(TEMPLATE, TEMPLATE, ALL) == (TEMPLATE, [])


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("  validation: 0.2           #", "prepare.validation"),
        ("  near_duplicates:", "prepare.near_duplicates"),
        ("    views: 0", "extract.augment.views"),
        ("    crop:", "extract.augment.crop"),
        ("    noise:", "extract.augment.noise"),
        ("  projections:", "report.projections"),
    ],
)
def test_a_missing_line_comes_back_where_it_was(line: str, key: str) -> None:
    assert add_missing(without(line), TEMPLATE, ALL) == (TEMPLATE, [key])


def test_several_and_the_first_of_a_section() -> None:
    text = without("novelty:", NOVELTY_KEEP, "  pictures:", "  share: 1.0")
    completed, keys = add_missing(text, TEMPLATE, ALL)
    assert keys == ["extract.share", "novelty", "report.pictures"]
    assert load(completed) == load(TEMPLATE)


def test_a_new_section_comes_with_its_comments_behind_its_neighbor() -> None:
    start = TEMPLATE.index("# Optional runs that train a backbone")
    end = TEMPLATE.index("extract:")
    text = TEMPLATE[:start] + TEMPLATE[end:]
    assert add_missing(text, TEMPLATE, ALL) == (TEMPLATE, ["pretrain"])


def test_what_the_user_wrote_stays() -> None:
    text = without("  patience:", "  test: 0.2").replace(
        "  source: data/samples/faces", "  # mine\n  source: 'pets # 1'   # really"
    )
    text = text.replace("  pictures: 600", "  pictures: 12")
    completed, keys = add_missing(text, TEMPLATE, ALL)
    assert keys == ["prepare.test", "finetune.patience"]
    lines = completed.splitlines()
    assert set(text.splitlines()) <= set(lines)
    assert len(lines) == len(text.splitlines()) + 2
    assert load(completed)["prepare"]["source"] == "pets # 1"


def test_names_that_the_user_chose_are_left_alone() -> None:
    start, end = TEMPLATE.index("    dense:\n"), TEMPLATE.index("    logistic:\n")
    text = TEMPLATE[:start] + TEMPLATE[end:]
    assert add_missing(text, TEMPLATE, ALL) == (text, [])


def test_only_the_sections_asked_for() -> None:
    text = without("  patience:", "  pictures:")
    assert add_missing(text, TEMPLATE, {"report"})[1] == ["report.pictures"]


def test_four_spaces_an_anchor_and_no_newline_at_the_end() -> None:
    text = "prepare: &p\n    source: a\n    test: 0.1\nreport:\n    <<: *p\n    seed: 3"
    completed, _ = add_missing(text, TEMPLATE, {"prepare", "report"})
    after, before, defaults = load(completed), load(text), load(TEMPLATE)
    assert completed.startswith("prepare: &p\n    source: a\n    validation: 0.2           # share")
    assert after["prepare"] == {**defaults["prepare"], **before["prepare"]}
    # What the anchor merges in counts as there.
    assert after["report"] == {**defaults["report"], **after["prepare"], "seed": 3}


def test_braces() -> None:
    text = "extract:\n  augment: {views: 4}  # mine\nevaluate: {seed: 3}\nnovelty: {}\n"
    completed, _ = add_missing(text, TEMPLATE, {"extract", "novelty"})
    after, defaults = load(completed), load(TEMPLATE)
    augment = {**defaults["extract"]["augment"], "views": 4}
    assert after["extract"] == {**defaults["extract"], "augment": augment}
    assert after["novelty"] == defaults["novelty"]
    assert after["evaluate"] == {"seed": 3}
    assert "# mine" in completed


def test_a_section_that_is_no_mapping_is_left_to_the_check() -> None:
    text = without(NOVELTY_KEEP).replace("novelty:", "novelty: null")
    assert add_missing(text, TEMPLATE, ALL) == (text, [])
