"""The stages of the pipeline as they ran, for the page."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from headstart import catalog
from headstart.catalog.weights import FILE_SUFFIXES
from headstart.features.identity import FeatureIdentity
from headstart.heads.finetuned_card import NAME as FINETUNED
from headstart.report.content import Fact, StageStep
from headstart.report.results import Results


def steps(results: Results) -> tuple[StageStep, ...]:
    """Tell what each stage did, as far as the pipeline has come."""
    makers: tuple[Callable[[Results], StageStep | None], ...] = (
        _prepare,
        _extract,
        _train,
        _finetune,
        _evaluate,
    )
    return tuple(step for step in (make(results) for make in makers) if step is not None)


def _prepare(results: Results) -> StageStep:
    manifest = results.manifest
    facts = [
        Fact(
            text="fact.images",
            values={"n": len(manifest.in_use), "classes": len(manifest.class_names)},
        )
    ]
    if results.quarantine:
        facts.append(Fact(text="fact.unreadable", values={"n": len(results.quarantine)}))
    counts = results.data.get("corrections", {})
    made = {name: counts.get(name, 0) for name in ("kept", "relabelled", "dropped")}
    if any(made.values()):
        facts.append(Fact(text="fact.corrections", values=made))
    return StageStep(stage="prepare", facts=tuple(facts))


def _extract(results: Results) -> StageStep | None:
    file = results.features
    if file is None:
        return None
    identity, (height, width) = file.header.identity, file.header.identity.image_size
    facts = [
        Fact(
            text="fact.backbone",
            values={"backbone": identity.backbone, "weights": Path(identity.weights).name},
        ),
        *_license(identity),
        Fact(text="fact.cut", values={"layer": identity.layer, "pooling": identity.pooling}),
        Fact(
            text="fact.image_size",
            values={"height": height, "width": width, "resize": identity.resize},
        ),
        Fact(text="fact.features", values={"rows": len(file), "dim": file.header.feature_dim}),
    ]
    if results.used is not None:
        share = results.params.get("extract", {}).get("share")
        values = {"used": results.used, "n": len(results.manifest.in_use), "share": share}
        facts.append(Fact(text="fact.share", values=values))
    if cost := results.extract.get("cost"):
        millions = {name: f"{cost[name] / 1e6:,.1f}" for name in ("multiply_adds", "parameters")}
        facts.append(Fact(text="fact.cost", values=millions))
    views = int(np.count_nonzero(file.view))
    if views:
        facts.append(Fact(text="fact.views", values={"n": views}))
    facts.append(
        Fact(
            text="fact.engine", values={"engine": identity.engine, "precision": identity.precision}
        )
    )
    return StageStep(
        stage="extract",
        facts=tuple(facts),
        computed=results.extract.get("computed"),
        reused=results.extract.get("reused"),
    )


def _license(identity: FeatureIdentity) -> list[Fact]:
    """Tell the license of published weights; a file of the user's and random ones have none."""
    own = identity.weights.startswith("random:") or identity.weights.endswith(FILE_SUFFIXES)
    if own or identity.onnx is not None:
        return []
    return [Fact(text="fact.license", values={"name": catalog.get(identity.backbone).license})]


def _train(results: Results) -> StageStep | None:
    names = [head.name for head in results.heads if head.name != FINETUNED]
    if not names:
        return None
    return StageStep(
        stage="train", facts=(Fact(text="fact.heads", values={"names": ", ".join(names)}),)
    )


def _finetune(results: Results) -> StageStep | None:
    for head in results.heads:
        if head.name == FINETUNED:
            card, best = head.card, head.card.get("setting", {}).get("epochs")
            start, cut = card.get("start", {}).get("name", ""), card.get("cut")
            facts = [
                Fact(text="fact.cut_above", values={"cut": cut})
                if cut
                else Fact(text="fact.cut_nowhere"),
                Fact(text="fact.start", values={"name": start}),
                Fact(text="fact.epochs", values={"n": len(head.history), "best": best})
                if best
                else Fact(text="fact.epochs_none", values={"n": len(head.history)}),
            ]
            return StageStep(stage="finetune", facts=tuple(facts))
    return None


def _evaluate(results: Results) -> StageStep | None:
    if results.selected is None:
        return None
    file = results.features
    split = results.manifest.split if file is None else file.split[file.rows()]
    n_test = int((split == "test").sum())
    return StageStep(
        stage="evaluate",
        facts=(
            Fact(text="fact.test_images", values={"n": n_test}),
            Fact(
                text="fact.selected_default"
                if results.test["selected"].get("selected_by") == "default"
                else "fact.selected",
                values={"name": results.selected},
            ),
        ),
    )
