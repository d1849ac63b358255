"""The model card: what a stranger must know before using the exported model."""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from typing import Any

import jinja2
from ruamel.yaml import YAML

from headstart.commands.export.export import Exported, ExportJob
from headstart.extraction.bottleneck import recover_spec

HEADLINE = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "top5_accuracy": "Top-5 accuracy",
    "macro_f1": "Macro F1",
    "log_loss": "Log loss (nats)",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "roc_auc": "ROC AUC",
}
"""Scores on the card, in this order, and what it calls them."""

_HUB_METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "roc_auc": "roc_auc"}
_LIBRARIES = ("tensorflow", "keras", "numpy", "pillow", "opencv-python-headless")
_IMPORTS = ("import numpy as np", "from PIL import Image, ImageOps")
"""Of the example, besides what the format needs."""
_MOST_CLASSES = 100
"""With more there is no table of scores or thresholds per class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What the card says that the run left behind.

    Attributes:
        model_name: Name of its folder, such as "logistic".
        data_name: What to call the data.
        data: Content of metrics/data.json; empty where there is none.
        scores: What metrics/test.json says of the model; empty where it says nothing.
        augment: Recipe of the augmented views it was trained on; None where there were none.
        settings: What was chosen for training, such as the head's options.
    """

    model_name: str
    data_name: str
    data: Mapping[str, Any]
    scores: Mapping[str, Any]
    augment: Mapping[str, Any] | None
    settings: Mapping[str, Any]


def render(job: ExportJob, exported: Exported, facts: CardFacts) -> str:
    """Return the card as Markdown with YAML front matter.

    Source: the metadata that model hubs read, https://huggingface.co/docs/hub/model-cards.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Markdown, not HTML; what comes from outside goes through the filter `cell`.
        autoescape=False,
    )
    environment.filters["cell"] = escaped
    template = environment.from_string(
        resources.files("headstart.commands.export")
        .joinpath("card.md.j2")
        .read_text(encoding="utf-8")
    )
    identity = job.card.identity
    return template.render(
        front_matter=_yaml(_front_matter(job, facts)),
        job=job,
        imports="\n".join(sorted((*_IMPORTS, job.format.imports), key=_by_kind_and_name)),
        card=job.card,
        identity=identity,
        spec=recover_spec(identity),
        exported=exported,
        agreement=exported.agreement,
        facts=facts,
        headline=_headline(facts),
        per_class=_per_class(facts),
        most_classes=_MOST_CLASSES,
        coverage=_measured(facts, "coverage"),
        saved=_measured(facts, "decisions"),
        **_operating(job),
        settings=_yaml(dict(facts.settings)),
        augment=_yaml(dict(facts.augment)) if facts.augment else "",
        versions={name: version(name) for name in (*_LIBRARIES, *job.format.packages)},
        headstart=version("headstart"),
    )


def _front_matter(job: ExportJob, facts: CardFacts) -> dict[str, Any]:
    backbone = job.card.identity.backbone
    content: dict[str, Any] = {
        "library_name": job.format.library,
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "transfer-learning", backbone.lower(), job.format.name],
        "metrics": ["accuracy"],
    }
    if facts.scores:
        measured = [
            {"type": kind, "name": HEADLINE[name], "value": round(facts.scores[name], 4)}
            for name, kind in _HUB_METRICS.items()
            if facts.scores.get(name) is not None
        ]
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"name": facts.data_name, "type": "imagefolder", "split": "test"},
            "metrics": measured,
        }
        name = f"{facts.data_name}-{backbone}-{facts.model_name}"
        content["model-index"] = [{"name": name, "results": [result]}]
    return content


def _by_kind_and_name(line: str) -> tuple[bool, str]:
    """Order lines of imports as formatters do: whole modules first."""
    return line.startswith("from"), line.lower()


def _headline(facts: CardFacts) -> list[tuple[str, str, str]]:
    """Return name, value and interval of the headline scores."""
    intervals = facts.scores.get("intervals", {})
    rows = []
    for name, title in HEADLINE.items():
        value = facts.scores.get(name)
        if value is not None:
            interval = " to ".join(f"{end:.3f}" for end in intervals.get(name, ()))
            rows.append((title, f"{value:.3f}", interval))
    return rows


def _per_class(facts: CardFacts) -> list[Mapping[str, Any]]:
    rows = list(facts.scores.get("per_class", ()))
    return rows if len(rows) <= _MOST_CLASSES else []


def _operating(job: ExportJob) -> dict[str, Any]:
    """Return what the card says of sets and costs; None for what there is not."""
    told = job.point.as_dict() if job.point is not None else {}
    decisions = told.get("decisions")
    costs = _yaml({name: decisions[name] for name in ("costs", "frequency")}) if decisions else ""
    return {"sets": told.get("sets"), "decisions": decisions, "costs": costs}


def _measured(facts: CardFacts, name: str) -> Mapping[str, Any] | None:
    """Return what was measured on test images, if there were any."""
    found = facts.scores.get(name)
    return found if found and len(found) > 1 else None


def _yaml(content: dict[str, Any]) -> str:
    writer = YAML()
    writer.default_flow_style = False
    writer.width = 4096
    stream = io.StringIO()
    # Through JSON, so that tuples and numbers of numpy become YAML's own.
    writer.dump(json.loads(json.dumps(content)), stream)
    return stream.getvalue().strip()


def escaped(text: object) -> str:
    """Return a name as Markdown that neither ends a table's cell nor starts markup."""
    name = re.sub(r"[\\|`*_<>\[\]&#~]", r"\\\g<0>", " ".join(str(text).split()))
    # At the beginning, what starts a list or underlines a heading.
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", name)
