"""`headstart suggest`: which unlabelled photos are worth labelling next."""

import argparse
import sys
from pathlib import Path

from headstart.commands import arguments
from headstart.commands.suggest.images import (
    Distinct,
    Photos,
    distinct,
    find_photos,
    read_photos,
)
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


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        type=arguments.path,
        help="folder of photos (with all below it), image, glob such as 'photos/**/*.jpg', or - "
        "for a list on standard input, one per line",
    )
    parser.add_argument(
        "--count",
        type=arguments.whole_number(1, _MOST),
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
        type=arguments.whole_number(0, arguments.LARGEST_SEED),
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
    requests, failures = find_photos(_listable(one) for one in expand(args.paths, sys.stdin))
    # First: what is left out needs no features.
    left = distinct(requests, state.labelled)
    photos = read_photos([requests[row] for row in left.rows], state.bottleneck, FeatureStore())
    failures |= photos.failures
    for name, reason in failures.items():
        notify(f"error: {printable(name)}: {reason}")
    if not (photos.requests or left.labelled or left.copies):
        raise InputError(
            f"{', '.join(map(printable, args.paths))}: expected photos, received none that can be "
            "read"
        )
    suggestions, files = _suggest(state, photos, args.output, args.count, args.seed)
    _tell(photos, left, suggestions, args.count)
    if suggestions:
        page = args.output.with_suffix(".html")
        write_suggestions(args.output, suggestions)
        write_page(page, args.output, suggestions, files)
        print(f"{printable(args.output)}, to fill in the column label; {printable(page)}, to look")
    return 1 if failures else 0


def _listable(item: Path | NothingFound) -> Path | NothingFound:
    if isinstance(item, Path) and (reason := why_not_listed(str(item))):
        return NothingFound(str(item), reason)
    return item


def _suggest(
    state: ProjectState, photos: Photos, table: Path, count: int, seed: int
) -> tuple[list[Suggestion], list[str]]:
    """Return the suggestions, and the path of each one's file from here."""
    found = state.known(seed) if photos.requests else None
    known, classifier = found or (None, None)
    choices = select(photos.vectors, count, known=known, seed=seed)
    chosen = [photos.requests[choice.row] for choice in choices]
    names = [("", "")] * len(choices)
    if classifier is not None and state.file is not None and choices:
        probabilities = classifier.probabilities(photos.vectors[[choice.row for choice in choices]])
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
    read = len(photos.requests) + left.labelled + left.copies
    counts = photos.counts
    print(f"{read:,} photos, {counts.computed:,} computed, {counts.reused:,} reused")
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


def _table(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in TABLES[:1]:
        raise argparse.ArgumentTypeError(f"expected a name that ends in .csv, received {text}")
    return path
