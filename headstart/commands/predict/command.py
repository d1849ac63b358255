"""`headstart predict`: classify photos with the selected model."""

import argparse
import math
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self, get_args

from tqdm import tqdm

from headstart.commands import arguments
from headstart.commands.predict import grid
from headstart.commands.predict.labels import KnownLabels, paths_of_split
from headstart.commands.predict.review import Review
from headstart.commands.predict.writing import FORMATS, make_writer
from headstart.common import places
from headstart.common.errors import InputError
from headstart.common.params import load_section
from headstart.common.progress import notify, progress
from headstart.common.system_errors import writing
from headstart.common.temporaries import temporary_folder
from headstart.common.text import counted, printable
from headstart.common.vocabulary import SPLITS, Where
from headstart.dataset.manifest import read_manifest
from headstart.evaluation.novelty import Novelty
from headstart.evaluation.operating import OperatingPoint, find_point
from headstart.extraction.options import ExtractOptions
from headstart.extraction.store import FeatureStore
from headstart.inference.classifier import Failure, Prediction, classify, cluster_chunk
from headstart.inference.inputs import STANDARD_INPUT, expand
from headstart.inference.model import TrainedModel, find_novelty, load_trained_model, model_folder

_BAR_FROM = 100
"""Images from which on a progress bar is drawn."""

_MOST = 1000
"""Classes to name, or views to average: at most."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        default=[],
        type=arguments.path,
        help="image, folder (with all below it), glob such as 'photos/**/*.jpg', or - for a list "
        "on standard input, one per line",
    )
    what.add_argument(
        "--split", choices=SPLITS, help="this project's own images of a split, instead of paths"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--head",
        metavar="NAME",
        help="the head NAME instead of the selected one; finetuned for the fine-tuned model",
    )
    which.add_argument("--model", type=Path, metavar="FOLDER", help="a model's folder anywhere")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="table",
        help="table for people; csv: a header, then a line per image; json: JSON Lines, an object "
        "per line (default: %(default)s)",
    )
    parser.add_argument(
        "--top",
        type=arguments.whole_number(1, _MOST),
        default=3,
        metavar="N",
        help="name the N likeliest classes (default: %(default)s)",
    )
    parser.add_argument(
        "--grid",
        type=_picture,
        metavar="FILE.png",
        help=f"draw up to {grid.MOST} of the photos, evenly spaced, each with its class, "
        "probability and, where known, label; also .jpg and .webp",
    )
    parser.add_argument(
        "--mistakes",
        action="store_true",
        help="list and draw only photos that are given another class than their label",
    )
    parser.add_argument(
        "--views",
        type=arguments.whole_number(0, _MOST),
        default=0,
        metavar="K",
        help="average with K augmented views of each image, made as extract.augment of "
        "params.yaml says (default: %(default)s)",
    )
    parser.add_argument(
        "--threshold",
        type=_threshold,
        default=1.0,
        metavar="NOVELTY",
        help="name no class above this novelty; at 1 ordinary images keep their class in the share "
        "that metrics/novelty.json states, novelty.keep if training images suffice (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--no-abstain",
        action="store_true",
        help="name a class for every image, do not compute its novelty, and let no cost speak "
        "against naming one",
    )
    parser.add_argument(
        "--on",
        choices=get_args(Where),
        default="local",
        help="where features are computed: on this machine, or on the nodes of the Ray cluster "
        "that RAY_ADDRESS names, which need the files under the same paths (default: %(default)s)",
    )
    parser.epilog = (
        "An image that looks like nothing in training is given no class: the table says "
        "(unlike training), in CSV and JSON abstained is true and prediction is empty or null; its "
        "likeliest classes are listed all the same. So a class that is called unknown cannot be "
        "taken for it. With evaluate.coverage of params.yaml each image has a set of classes, in "
        "CSV and JSON a list called set. With evaluate.costs or evaluate.abstain_cost it has a "
        "decision, which the table shows where it is not the likeliest class; without one, reason "
        "is cost, where naming none costs least, or novelty. The label of a photo is the one in "
        "data/manifest.csv, or else the name of its folder if a class is called so; how many are "
        "right is told on standard error. Files that cannot be read are reported there, too, the "
        "rest goes on, and the exit status is 1. Features are kept in the feature store: what was "
        "classified once runs no backbone again."
    )


def run(args: argparse.Namespace) -> int:
    """Classify and print, image by image; draw what is to be drawn.

    Raises:
        InputError: there is no such model, what it needs is missing, there is no image to
            classify, no label to hold a class against, or the picture cannot be written.
    """
    if args.grid is not None:
        # Now rather than after an hour of photos.
        with writing(args.grid), temporary_folder(args.grid.parent):
            pass
    folder = model_folder(args.head, args.model)
    recipe = load_section("extract", ExtractOptions).augment if args.views else None
    labelled = args.split or args.grid or args.mistakes
    manifest = read_manifest(places.MANIFEST) if labelled and _has_manifest(args.split) else None
    model = load_trained_model(folder, FeatureStore(), recipe, args.on)
    class_names = model.card.class_names
    novelty = None if args.no_abstain else _novelty(folder, model)
    point = _operating_point(folder, model, args.views)
    header, write = make_writer(args.format, class_names, args.top, point)
    review = None
    if labelled:
        review = Review(class_names, KnownLabels(class_names, manifest), mistakes=args.mistakes)
    listed = paths_of_split(manifest, args.split) if manifest and args.split else None
    sys.stdout.write(header)
    answers = classify(
        model,
        expand(args.paths, sys.stdin) if listed is None else listed,
        views=args.views,
        novelty=novelty,
        limit=args.threshold,
        point=point,
        abstain=not args.no_abstain,
        chunk=cluster_chunk(model, args.views) if args.on == "ray" else None,
    )
    failures = count = abstained = 0
    with closing(model), _Bar(_total(args.paths) if listed is None else len(listed)) as bar:
        for answer in answers:
            predictions = [one for one in answer if isinstance(one, Prediction)]
            told = [one for one in answer if isinstance(one, Failure)]
            lines = write([one for one in predictions if review is None or review.add(one)])
            messages = [f"error: {printable(one.path)}: {one.reason}" for one in told]
            bar.advance(lines, messages, len(answer))
            failures += len(told)
            count += len(answer)
            abstained += sum(one.abstained for one in predictions)
    if not count:
        raise InputError("standard input: expected one path per line, received none")
    if (
        novelty is not None
        and abstained
        and args.threshold == 1
        and (shortfall := novelty.shortfall())
    ):
        notify(f"note: {shortfall}.")
    if review is not None and failures < count:
        name = f"{folder.absolute().name} on {model.card.identity.backbone}"
        _conclude(review, args.grid, name)
    return 1 if failures else 0


def _has_manifest(split: str | None) -> bool:
    # Photos of a split can be had from there alone; that it is missing, its reader says best.
    return split is not None or places.MANIFEST.is_file()


def _conclude(review: Review, picture: Path | None, model: str) -> None:
    """Tell how many photos are right, and draw those that are to be shown.

    Args:
        review: Of all photos.
        picture: The file to write, if any.
        model: What to call the model in it.
    """
    review.expect_labels()
    notify(review.told())
    photos = review.photos
    if picture is None:
        return
    if not photos:
        notify(f"{printable(picture)}: not written, since there is no mistake to show")
        return
    grid.save(grid.draw_grid(photos, review.told(), review.subtitle(model)), picture)
    notify(f"{printable(picture)}: {counted(len(photos), 'photo')}")


def _total(paths: Sequence[str]) -> int | None:
    """Return how many files the paths stand for, if a progress bar wants it and it can be told."""
    if sys.stderr.isatty() and STANDARD_INPUT not in paths:
        return sum(1 for _ in expand(paths, sys.stdin))
    return None


class _Bar:
    """A progress bar that appears from the hundredth image on and keeps clear of the lines.

    Args:
        total: Number of images, if it is known.
    """

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._bar: Any = None
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, lines: str, messages: Sequence[str], count: int) -> None:
        """Write lines to standard output and messages to standard error; count on."""
        with tqdm.external_write_mode(file=sys.stdout):
            sys.stdout.write(lines)
            sys.stdout.flush()
        for message in messages:
            notify(message)
        self._done += count
        if self._bar is None and max(self._done, self._total or 0) >= _BAR_FROM:
            self._bar = progress(total=self._total, desc="Predicting")
            self._bar.update(self._done)
        elif self._bar is not None:
            self._bar.update(count)


def _novelty(folder: Path, model: TrainedModel) -> Novelty | None:
    """Find what tells novelty; say so where there is none."""
    novelty, problem = find_novelty(folder, model)
    if novelty is None:
        notify(f"warning: {problem}; a class is named for every image. `dvc repro` writes it anew.")
    return novelty


def _operating_point(folder: Path, model: TrainedModel, views: int) -> OperatingPoint | None:
    """Find what decides on probabilities; say so where it cannot be used."""
    point, problem = find_point(folder, model.card.class_names)
    if problem:
        notify(
            f"warning: {problem}; there are no sets of classes, nor decisions by cost. "
            "`dvc repro` writes it anew."
        )
    if point is not None and views:
        notify(
            "note: sets of classes and decisions by cost are left out: they hold for the "
            "probabilities of images themselves, not for their mean with --views."
        )
        return None
    return point


def _threshold(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0 or math.isinf(value):
        raise argparse.ArgumentTypeError(f"expected a number above 0, received {text}")
    return value


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in grid.ENDINGS:
        raise argparse.ArgumentTypeError(
            f"expected a name that ends in {', '.join(grid.ENDINGS)}, received {text}"
        )
    return path
