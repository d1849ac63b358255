"""`headstart export`: write the selected model so that it can be used without this project."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.commands.export.card import CardFacts, render
from headstart.commands.export.checking import Reference, evenly
from headstart.commands.export.export import (
    CHECKED_IMAGES,
    MEASURED_IMAGES,
    Exported,
    ExportJob,
    check_folder,
    export,
)
from headstart.commands.export.formats import FORMATS, Format
from headstart.common import places
from headstart.common.errors import InputError
from headstart.common.params import load_section
from headstart.common.progress import notify
from headstart.common.vocabulary import SPLITS, Precision
from headstart.dataset.manifest import Manifest, ManifestRow, read_manifest
from headstart.dataset.options import PrepareOptions
from headstart.evaluation.operating import find_point
from headstart.extraction.bottleneck import recover
from headstart.extraction.extract import extract
from headstart.extraction.requests import Request
from headstart.extraction.store import FeatureStore
from headstart.features.file import FeatureFile
from headstart.heads import load as load_head
from headstart.heads.base import HeadCard, read_card
from headstart.heads.finetuned_card import KIND as FINETUNED
from headstart.inference.model import load_trained_model, model_folder

OUTPUT = Path("exports")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--format",
        choices=FORMATS,
        required=True,
        help="file format; all take uint8 RGB images of any size",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--head", metavar="NAME", help="models/heads/NAME instead of the selected one"
    )
    which.add_argument("--model", type=Path, metavar="FOLDER", help="a model's folder anywhere")
    parser.add_argument(
        "--quantize",
        choices=["int8"],
        help="8-bit weights and activations, calibrated on training images "
        f"({', '.join(name for name, entry in FORMATS.items() if entry.int8)})",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help=f"where to put it (default: {OUTPUT}/FORMAT, or {OUTPUT}/FORMAT-int8)",
    )
    parser.epilog = (
        "What was written is loaded again with the format's own runtime and compared with the "
        "pipeline on test images; if a probability differs by more than 1e-4, nothing is kept "
        "(with --quantize the difference is printed and not bounded). Both compute in float32 for "
        "that; where extract.precision is lower, the change that this makes is printed as well. "
        "README.md beside the model is its model card, labels.txt names the classes; both that "
        "card and export.json tell the thresholds and costs of evaluate in params.yaml. "
        "Exporting the same model again gives the same bytes."
    )


def run(args: argparse.Namespace) -> int:
    """Export, and print what the check found.

    Raises:
        InputError: there is no such model, it cannot be written in that format, something that it
            needs is missing, or the exported model does not say what the pipeline says.
    """
    form = FORMATS[args.format]
    if args.quantize and not form.int8:
        able = ", ".join(name for name, entry in FORMATS.items() if entry.int8)
        raise InputError(
            f"--quantize {args.quantize}: {form.name} has no 8-bit convolutions; use one of the "
            f"formats {able}"
        )
    form.check_packages()
    folder = args.output or OUTPUT / (f"{form.name}-int8" if args.quantize else form.name)
    check_folder(folder)
    model = model_folder(args.head, args.model)
    card = HeadCard.from_dict(read_card(model))
    manifest = read_manifest(places.MANIFEST)
    if manifest.class_names != card.class_names:
        raise InputError(
            f"{model}: trained on the classes {', '.join(card.class_names)}, but "
            f"{places.MANIFEST} has {', '.join(manifest.class_names)}; run `dvc repro`"
        )
    point, problem = find_point(model, card.class_names)
    if problem:
        notify(
            f"warning: {problem}; the export says nothing of sets of classes, nor of costs. "
            "`dvc repro` writes it anew."
        )
    job = ExportJob(
        format=form,
        model=_graph(model, card, form, args.quantize),
        card=card,
        reference=lambda: _reference(
            model, card, manifest, MEASURED_IMAGES if args.quantize else CHECKED_IMAGES
        ),
        training=[row for row in manifest if row.split == "train"] if args.quantize else (),
        point=point,
    )
    facts = _facts(model, card)
    exported = export(job, folder, lambda exported: render(job, exported, facts))
    print(_summary(job, exported))
    return 0


def _graph(model: Path, card: HeadCard, form: Format, quantize: str | None) -> Any:
    # Here, because they import TensorFlow, which takes seconds.
    if card.identity.onnx is not None:
        from headstart.commands.export import onnx_backbone

        onnx_backbone.check_format(card.identity, form, quantize)
        return onnx_backbone.whole_graph(model)
    from headstart.commands.export.assembling import whole_model

    return whole_model(model)


def _reference(model: Path, card: HeadCard, manifest: Manifest, most: int) -> Reference:
    """Ask the pipeline about test images; without any, about validation or training images."""
    by_split = {
        split: np.array([i for i, row in enumerate(manifest) if row.split == split], np.int64)
        for split in reversed(SPLITS)
    }
    split, positions = next((split, found) for split, found in by_split.items() if len(found))
    positions = positions[evenly(len(positions), most)]
    rows = [manifest.rows[position] for position in positions.tolist()]
    labels = manifest.labels[positions]
    probabilities = _probabilities(model, card, rows, "float32")
    as_trained = None
    # `headstart predict` also runs a fine-tuned model whole and in float32.
    if card.identity.precision != "float32" and card.kind != FINETUNED:
        as_trained = _probabilities(model, card, rows, card.identity.precision)
    return Reference(split, rows, labels, probabilities, as_trained)


def _probabilities(
    model: Path, card: HeadCard, rows: Sequence[ManifestRow], precision: Precision
) -> NDArray[np.float64]:
    """Ask the pipeline, with features computed in that precision."""
    requests = [Request(row.path, row.sha256) for row in rows]
    store = FeatureStore()
    if card.kind == FINETUNED:
        outcome = load_trained_model(model, store, None).predict(requests, 0, features=False)
        for path, reason in outcome.unreadable.items():
            raise InputError(f"{path}: {reason}; run `dvc repro` to list the images again")
        return outcome.probabilities
    bottleneck = recover(replace(card.identity, precision=precision))
    return load_head(model).predict_proba(extract(bottleneck, requests, store=store).array())


def _facts(model: Path, card: HeadCard) -> CardFacts:
    augment = None
    if places.FEATURES.is_file():
        header = FeatureFile.open(places.FEATURES).header
        if header.identity.feature_digest == card.identity.feature_digest:
            augment = header.augment
    return CardFacts(
        model_name=model.name,
        data_name=" and ".join(
            Path(source).stem for source in load_section("prepare", PrepareOptions).sources
        ),
        data=_read(places.DATA_METRICS),
        scores=_scores(model),
        augment=augment,
        settings={**card.options, **card.setting},
    )


def _scores(model: Path) -> dict[str, Any]:
    """Return the test scores of a model of this run; empty for one from elsewhere or untested."""
    test = _read(places.TEST_METRICS)
    found = {}
    if model == places.FINETUNED:
        found = dict(test.get("finetuned", {}))
    elif model.parent == places.HEADS:
        found = dict(test.get("heads", {}).get(model.name, {}))
    return found if "accuracy" in found else {}


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON file; empty where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); run `dvc repro`") from None
    return dict(content)


def _summary(job: ExportJob, exported: Exported) -> str:
    agreement = exported.agreement
    precision = job.card.identity.precision
    text = (
        f"{exported.folder / job.format.file}: {exported.megabytes:.1f} MB; largest difference "
        f"from the pipeline{'' if precision == 'float32' else ' in float32'} on "
        f"{agreement.images} {agreement.split} images: {agreement.largest_difference:.1e}"
    )
    if agreement.precision_difference is not None:
        text += (
            f"; difference due to cached features in {precision}: "
            f"{agreement.precision_difference:.1e}"
        )
    if job.training:
        text += (
            f"; accuracy {agreement.accuracy:.4f}, in floating point "
            f"{agreement.pipeline_accuracy:.4f}"
        )
    return text
