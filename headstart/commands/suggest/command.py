"""`headstart suggest`: which unlabelled photos are worth labelling next."""

import argparse
import sys
from pathlib import Path

from headstart.commands.suggest.images import Distinct, Photos, distinct, read_photos
from headstart.commands.suggest.project import ProjectState, project_state
from headstart.commands.suggest.selection import Choice, select
from headstart.commands.suggest.writing import (
    Reason,
    Suggestion,
    path_in_table,
    refuse_to_overwrite,
    why_not_listed,
    write_page,
    write_suggestions,
)
from headstart.common.errors import InputError
from headstart.common.progress import notify
from headstart.common.text import printable
from headstart.dataset.tables import TABLES
from headstart.extraction.store import FeatureStore
from headstart.inference.inputs import NothingFound, expand

_MOST = 100_000
_LARGEST_SEED = 2**32 - 1


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        type=_path,
        help="folder of photos (with all below it), image, glob such as 'photos/**/*.jpg', or - "
        "for a list on standard input, one per line",
    )
    parser.add_argument(
        "--count",
        type=_count,
        default=50,
        metavar="N",
        help="how many photos to suggest (default: %(default)s)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=_table,
        default=Path("suggestions.csv"),
        metavar="FILE",
        help="table to write, .csv; the page beside it has the same name and .html (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a table even if labels are filled in"
    )
    parser.add_argument(
        "--seed",
        type=_seed,
        default=0,
        help="of what is drawn: the folds, and what stands for all of many photos (default: "
        "%(default)s)",
    )
    parser.epilog = (
        "Without a run the section extract of params.yaml says what the features are; after one, "
        "photos that are labelled or look like one that is are left out, and photos that the "
        "labelled ones leave uncertain come in. Fill in the column label, delete the lines that "
        "you do not label, and name the table in prepare.source: [the source so far, "
        "suggestions.csv]. Files that cannot be read are reported on standard error, the rest goes "
        "on, and the exit status is 1. Features are kept in the feature store."
    )


def run(args: argparse.Namespace) -> int:
    """Suggest and write.

    Raises:
        InputError: there is no photo, the table holds labels, or the project's files cannot be
            used.
    """
    if not args.overwrite:
        refuse_to_overwrite(args.output)
    state = project_state()
    photos = _read(args.paths, state)
    left = distinct(photos.requests, state.labelled)
    suggestions, files = _suggest(state, photos, left, args.output, args.count, args.seed)
    _tell(photos, left, suggestions, args.count)
    if suggestions:
        page = args.output.with_suffix(".html")
        write_suggestions(args.output, suggestions)
        write_page(page, args.output, suggestions, files)
        print(f"{printable(args.output)}, to fill in the column label; {printable(page)}, to look")
    return 1 if photos.failures else 0


def _read(paths: list[str], state: ProjectState) -> Photos:
    found = (_listable(one) for one in expand(paths, sys.stdin))
    photos = read_photos(found, state.bottleneck, FeatureStore())
    for name, reason in photos.failures.items():
        notify(f"error: {printable(name)}: {reason}")
    if not photos.requests:
        raise InputError(
            f"{', '.join(map(printable, paths))}: expected photos, received none that can be read"
        )
    return photos


def _listable(item: Path | NothingFound) -> Path | NothingFound:
    if isinstance(item, Path) and (reason := why_not_listed(str(item))):
        return NothingFound(str(item), reason)
    return item


def _suggest(
    state: ProjectState, photos: Photos, left: Distinct, table: Path, count: int, seed: int
) -> tuple[list[Suggestion], list[str]]:
    """Return the suggestions, and the path of each one's file from here."""
    found = state.known(seed) if len(left.rows) else None
    known, classifier = found or (None, None)
    candidates = photos.vectors[left.rows]
    choices = select(candidates, count, known=known, seed=seed)
    chosen = [photos.requests[left.rows[choice.row]] for choice in choices]
    names = [("", "")] * len(choices)
    if classifier is not None and state.file is not None and choices:
        probabilities = classifier.probabilities(candidates[[choice.row for choice in choices]])
        classes = classifier.classes[probabilities.argmax(axis=1)]
        names = [
            (state.file.header.class_names[index], f"{probability:.4f}")
            for index, probability in zip(classes, probabilities.max(axis=1), strict=True)
        ]
    suggestions = [
        Suggestion(
            path_in_table(request.path, table), "", rank, _reason(choice), *name, request.sha256
        )
        for rank, (choice, request, name) in enumerate(zip(choices, chosen, names, strict=True), 1)
    ]
    return suggestions, [request.path for request in chosen]


def _reason(choice: Choice) -> Reason:
    return "uncertain" if choice.uncertain else "typical"


def _tell(photos: Photos, left: Distinct, suggestions: list[Suggestion], count: int) -> None:
    read, computed = len(photos.requests), photos.counts.computed
    print(f"{read:,} photos, {computed:,} computed, {photos.counts.reused:,} reused")
    if left.labelled or left.copies:
        print(
            f"left out: {left.labelled:,} that are labelled or look like one that is, "
            f"{left.copies:,} that look like another"
        )
    if not suggestions:
        print("nothing to suggest: no photo shows what is not labelled")
        return
    uncertain = sum(one.reason == "uncertain" for one in suggestions)
    fewer = f", all there are of the {count:,} wanted" if len(suggestions) < count else ""
    print(
        f"{len(suggestions):,} suggested{fewer}: {len(suggestions) - uncertain:,} typical, "
        f"{uncertain:,} uncertain"
    )


def _path(text: str) -> str:
    # As a path it would be the folder one is in.
    if not text:
        raise argparse.ArgumentTypeError("expected a path, received an empty text")
    return text


def _table(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in TABLES[:1]:
        raise argparse.ArgumentTypeError(f"expected a name that ends in .csv, received {text}")
    return path


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 1 to {_MOST}, received {text}"
        )
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) > _LARGEST_SEED:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 0 to {_LARGEST_SEED}, received {text}"
        )
    return int(text)
