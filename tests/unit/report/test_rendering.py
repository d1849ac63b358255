import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from headstart.report import rendering, scores, steps
from headstart.report.content import (
    DataPart,
    Fact,
    HeadPart,
    Picture,
    Report,
    ShownLeak,
    ShownScore,
    StageStep,
)
from headstart.report.rendering import HEADLINE, Texts, render

PAGE = Path(rendering.__file__).parent / "page"
TOLD: dict[str, Any] = {
    "held_out": 1480,
    "run": {"source": "photos <b>", "backbone": "LeNet5 (random), c5, avg"},
    "params": "prepare:\n  source: …/photos <b>\n",
}
NASTY = ("<img src=x onerror=alert(1)>", "고양이", "a\"b'c", "</script><script>alert(2)</script>")


class Elements(HTMLParser):
    """All start tags with their attributes, all texts outside scripts, and the scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.texts: list[str] = []
        self.scripts: list[tuple[dict[str, Any], str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, Any]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append((dict(attributes), ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            attributes, before = self.scripts.pop()
            self.scripts.append((attributes, before + data))
        else:
            self.texts.append(data)

    def script(self, name: str) -> str:
        return next(text for attributes, text in self.scripts if attributes.get("id") == name)


def report(names: tuple[str, ...] = ("cat", "dog"), **more: Any) -> Report:
    pictures = tuple(
        Picture(path=f"photos/{name}.jpg", label=label, split="test", thumbnail="data:image/webp,")
        for label, name in enumerate(names)
    )
    data = DataPart(
        counts=tuple((3, 2, 1) for _ in names),
        samples=tuple((label,) for label in range(len(names))),
        quarantine=((f"photos/{names[0]}.gif", "empty file (0 bytes)"),),
        n_quarantine=4,
        leaks=(
            ShownLeak(paths=names[:2], splits=("train", "test"), how="near", pictures=(0, None)),
        ),
        n_leaks=1,
        duplicates=2,
    )
    return Report(**{
        "class_names": names,
        "pictures": pictures,
        "data": data,
        "steps": (
            StageStep(stage="extract", computed=1, reused=3, facts=(
                Fact(text="fact.cut", values={"layer": names[0], "pooling": "avg"}),
            )),
        ),
        "heads": (),
        "selected": None,
        **more,
    })  # fmt: skip


def head(name: str, n_classes: int) -> HeadPart:
    score = ShownScore(value=0.75, low=0.5, high=1.0)
    cells = tuple((label, label, 1) for label in range(n_classes))
    scores = {"test": {"accuracy": score}, "validation": {"accuracy": ShownScore(value=0.7)}}
    return HeadPart(name=name, kind="knn", settings={"l2": 0.1}, scores=scores, confusion=cells)


@pytest.fixture(scope="module")
def nasty() -> str:
    return render(
        report(NASTY, heads=(head("knn", 4),), selected="knn", ties=("logistic",), **TOLD)
    )


def test_names_from_the_data_stay_text(nasty: str) -> None:
    page = Elements(nasty)
    assert not [tag for tag, _ in page.tags if tag in ("img", "b", "iframe", "object")]
    handlers = [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert not handlers
    assert len(page.scripts) == nasty.count("<script") == nasty.count("</script>") == 4
    for name in NASTY:
        assert name in page.texts
    assert json.loads(page.script("report"))["class_names"] == list(NASTY)


def test_only_its_own_scripts_may_run_and_nothing_may_be_fetched(nasty: str) -> None:
    page = Elements(nasty)
    policy = next(
        attributes["content"]
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    plotly = gzip.decompress(base64.b64decode(page.script("plotly")))
    own = next(text for attributes, text in page.scripts if not attributes)
    digests = [base64.b64encode(hashlib.sha256(code).digest()) for code in (own.encode(), plotly)]
    assert directives["script-src"].split() == [f"'sha256-{one.decode()}'" for one in digests]


def test_names_no_address_outside_itself(nasty: str) -> None:
    for tag, attributes in Elements(nasty).tags:
        for name in ("src", "href", "action", "srcset", "poster", "data"):
            assert attributes.get(name, "").startswith(("#", "data:")) or name not in attributes, (
                tag
            )
    own = nasty.replace(Elements(nasty).script("plotly"), "")
    assert not re.findall(r"https?://|url\(|@import", own)


def test_the_same_report_gives_the_same_bytes(nasty: str) -> None:
    again = report(NASTY, heads=(head("knn", 4),), selected="knn", ties=("logistic",), **TOLD)
    assert render(again) == nasty


def test_holds_little_more_than_what_it_shows(nasty: str) -> None:
    assert len(nasty.encode()) < 2_200_000


def test_sections_without_content_are_left_out() -> None:
    page = render(report())
    assert 'id="data"' in page
    for name in ("scores", "curves", "confusion", "map", "neighbors", "heat"):
        assert f'id="{name}"' not in page
        assert f'href="#{name}"' not in page


def test_lists_that_were_cut_say_so(nasty: str) -> None:
    assert "Shown: 1 of 4." in Elements(nasty).texts


def test_scores_come_with_their_interval(nasty: str) -> None:
    texts = Elements(nasty).texts
    assert "95% interval 50.0% to 100.0%" in texts
    assert "50.0% – 100.0%" in texts
    assert "tied with logistic on 1,480 held-out images" in texts
    assert "A tie: these images cannot tell knn from logistic." in texts


def test_a_validation_score_says_what_it_is_of() -> None:
    part = head("knn", 2)
    held_out = {"images": ShownScore(value=1171), "folds": ShownScore(value=5)}
    part.scores["validation"].update(held_out)
    part.scores["test"]["images"] = ShownScore(value=42)
    texts = Elements(render(report(heads=(part,), selected="knn"))).texts
    assert {"5-fold, 1,171 images", "42 images"} <= set(texts)
    del part.scores["validation"]["folds"]
    texts = Elements(render(report(heads=(part,), selected="knn"))).texts
    assert "1,171 images" in texts
    assert not [text for text in texts if "-fold" in text]


def test_the_head_of_the_page_says_which_run_it_is_about(nasty: str) -> None:
    page = Elements(nasty)
    start = page.texts[: page.texts.index("Selected head")]
    assert {"photos <b>", "LeNet5 (random), c5, avg", "params.yaml of this run"} <= set(start)
    assert page.texts[page.texts.index("photos <b> – Headstart report")]
    assert "prepare:\n  source: …/photos <b>\n" in page.texts
    assert ("a", {"href": "#params"}) in page.tags


TABLE = Texts().table


def test_texts_stand_in_both_languages_with_the_same_placeholders() -> None:
    for key, entry in TABLE.items():
        assert set(entry) == {"en", "ko"}, key
        english, korean = (sorted(re.findall(r"\{\w+\}", entry[name])) for name in ("en", "ko"))
        assert english == korean, key
        assert re.search("[가-힣]", entry["ko"]) or entry["ko"] == entry["en"], key


def _asked_for() -> tuple[set[str], set[str]]:
    """Keys that the page asks for by name, and beginnings of those it puts together."""
    code = "".join(path.read_text() for path in PAGE.iterdir() if path.suffix in (".js", ".j2"))
    begun = set(re.findall(r"""\b(?:t|text|has|t\.plain)\("([\w.]+\.)"\s*[~+]""", code))
    named = set(re.findall(r"""\b(?:t|text|fact|t\.plain)\("([\w.]+)"[,)]""", code))
    named |= set(re.findall(r"""data-t-label="([\w.]+)\"""", code))
    for choice in re.findall(r"text\([^()\"]*\? ((?:\"[\w.]+\"|[: ]|\w+ === \w+ \?)+)", code):
        named |= set(re.findall(r'"([\w.]+)"', choice))
    for module in (steps, scores):
        named |= set(re.findall(r'"((?:fact|basis)\.[\w.]+)"', Path(module.__file__).read_text()))
    return named, begun | {"metric.", "about."}


def test_every_text_is_asked_for_and_every_text_asked_for_exists() -> None:
    named, begun = _asked_for()
    assert len(named) > 60
    assert named <= set(TABLE)
    assert not [key for key in TABLE if key not in named and not key.startswith(tuple(begun))]


def test_every_headline_metric_has_a_name_and_a_meaning() -> None:
    assert {f"{kind}.{name}" for kind in ("metric", "metric_help") for name in HEADLINE} <= set(
        TABLE
    )
