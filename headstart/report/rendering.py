"""Writing a report as one HTML page that needs nothing but itself."""

import json
from dataclasses import asdict
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from headstart.report.charts_library import compressed_plotly, digest_for_policy
from headstart.report.content import Fact, HeadPart, Report
from headstart.scoring.metrics import named

SPLITS = ("train", "validation", "test")
SCORED = ("validation", "test", "uncorrected")
HEADLINE = (
    "accuracy",
    "balanced_accuracy",
    "top5_accuracy",
    "macro_f1",
    "log_loss",
    "brier",
    "ece",
    "roc_auc",
    "pr_auc",
)
"""Metrics that the page can show, in this order."""

TABLE = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece")
"""Those of them that fit into the table."""

PERCENT_METRICS = ("accuracy", "balanced_accuracy", "top5_accuracy", "macro_f1", "ece")

_SHARES = ("wanted", "covered", "one_class", "abstained", "errors_among_named")
"""Of the values of operating points, those that are shares of images."""

# In this order, since each uses what those before it define.
_STYLE = "style.css"
_SCRIPTS = (
    "text.js",
    "corrections.js",
    "pictures.js",
    "look.js",
    "heat.js",
    "matrix.js",
    "charts.js",
    "map.js",
    "main.js",
)


class Texts:
    """The table of texts, English and Korean, as the template uses it.

    A text is written in English together with its key, so that the page's script can put the
    other language in its place.
    """

    def __init__(self) -> None:
        self.table: dict[str, dict[str, str]] = json.loads(_asset("texts.json"))

    def __call__(self, key: str, **values: Any) -> Markup:
        """Return a text as an element that can be translated in place; `so` becomes code."""
        parts = [escape(part) for part in self.plain(key, **values).split("`")]
        # What is filled in comes from the data and keeps its backquotes.
        if "`" in self.table[key]["en"]:
            parts[1::2] = [Markup("<code>{}</code>").format(part) for part in parts[1::2]]
            content = Markup("").join(parts)
        else:
            content = Markup("`").join(parts)
        arguments = Markup(' data-a="{}"').format(_json(values)) if values else ""
        return Markup('<span data-t="{}"{}>{}</span>').format(key, arguments, content)

    def fact(self, fact: Fact) -> Markup:
        """Return a line of text, its numbers as people write them."""
        values = {
            name: _number(value) if isinstance(value, int) else value
            for name, value in fact.values.items()
        }
        return self(fact.text, **values)

    def plain(self, key: str, **values: Any) -> str:
        """Return a text in English, for an attribute."""
        text = self.table[key]["en"]
        for name, value in values.items():
            text = text.replace("{" + name + "}", str(value))
        return text

    def metric(self, name: str) -> Markup:
        """Return a metric's name."""
        return self(f"metric.{name}")

    def about(self, name: str) -> Markup:
        """Return the name of a fact about the run; libraries go by their own."""
        key = f"about.{name}"
        return self(key) if key in self.table else escape(name)


def render(report: Report) -> str:
    """Write the page.

    The same report gives the same text. Scripts may run only if their digest stands in the page's
    own policy, and the policy allows no request at all.

    Args:
        report: What stands on it.

    Returns:
        HTML.
    """
    texts = Texts()
    script = '"use strict";\n(() => {\n' + "\n".join(map(_asset, _SCRIPTS)) + "\n})();\n"
    charts, charts_digest = compressed_plotly()
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_asset),
    )
    content = asdict(report) | {"headline": HEADLINE, "percent_metrics": PERCENT_METRICS}
    drawn = [head.charts for head in report.heads if head.charts]
    judged = [head.confusion for head in report.heads if head.confusion]
    return environment.get_template("page.html.j2").render(
        report=report,
        chosen=next((head for head in report.heads if head.name == report.selected), None),
        t=texts,
        policy=_policy(digest_for_policy(script), charts_digest),
        style=Markup(_asset(_STYLE)),
        script=Markup(script),
        data=Markup(_json_in_html(content)),
        texts=Markup(_json_in_html(texts.table)),
        plotly=Markup(charts),
        sections=_sections(report, bool(drawn), bool(judged)),
        splits=SPLITS,
        scored=SCORED,
        charts=drawn,
        confusion=judged,
        metrics=_metrics_shown(report.heads),
        totals=[sum(row[column] for row in report.data.counts) for column in range(len(SPLITS))],
        images=_images,
        mistakes=_mistakes,
        percent=_percent,
        number=_number,
        metric_value=_metric_value,
        settings=_settings,
        signed=_signed,
        measured=_measured,
        some=named,
    )


def _sections(report: Report, drawn: bool, judged: bool) -> list[str]:
    shown = {
        "data": True,
        "look": True,
        "pipeline": True,
        "scores": bool(report.heads),
        "curves": drawn,
        "confusion": judged,
        "groups": report.groups is not None,
        "operating": report.operating is not None,
        "map": report.map is not None,
        "neighbors": bool(report.neighbors),
        "heat": report.heat is not None or report.no_heat is not None,
        "comparison": report.comparison is not None,
        "about": True,
    }
    return [name for name, here in shown.items() if here]


def _metrics_shown(heads: tuple[HeadPart, ...]) -> list[str]:
    present = {name for head in heads for split in SCORED for name in head.scores.get(split, {})}
    return [name for name in TABLE if name in present]


def _images(head: HeadPart) -> int:
    return sum(count for _, _, count in head.confusion or ())


def _mistakes(head: HeadPart) -> int:
    return sum(count for true, guess, count in head.confusion or () if true != guess)


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _signed(difference: float) -> str:
    """Return a difference of shares in percentage points."""
    return f"{100 * difference:+.1f}".replace("-", "\u2212")


def _number(value: int) -> str:
    return f"{value:,}"


def _measured(name: str, value: float) -> str:
    return _percent(value) if name in _SHARES else f"{value:,.3g}"


def _metric_value(metric: str, value: float) -> str:
    return _percent(value) if metric in PERCENT_METRICS else f"{value:.3f}"


def _settings(head: HeadPart) -> str:
    if not head.settings:
        return head.kind
    settings = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in head.settings.items()
    )
    return f"{head.kind}: {settings}"


def _asset(name: str) -> str:
    return (resources.files("headstart.report") / "page" / name).read_text(encoding="utf-8")


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _json_in_html(content: Any) -> str:
    # Within a script element only "<" could end it or open a comment.
    return _json(content).replace("<", "\\u003c")


def _policy(*digests: str) -> str:
    scripts = " ".join(f"'{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
