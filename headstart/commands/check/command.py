"""`headstart check`: whether the scores of the last run hold what params.yaml promises."""

import argparse
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from rich.console import Console

from headstart.commands.check.figures import Figure, figures, interval_of
from headstart.commands.scores import read_metrics
from headstart.commands.tables import Column, fit, output_width
from headstart.common.errors import InputError
from headstart.common.params import PARAMS_FILE, load_section
from headstart.common.places import TEST_METRICS
from headstart.common.text import printable
from headstart.configuration.check_options import CheckOptions
from headstart.configuration.promise import Promise


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = (
        "Judge the promises of params.yaml (check.promises) by metrics/test.json, the scores of "
        "the last run: run `dvc repro` first. The exit status is 0 where all hold, and 1 where one "
        "is broken or nothing is promised."
    )


def run(args: argparse.Namespace) -> int:
    """Print a table of the promises; return 1 where one is broken.

    Raises:
        InputError: nothing is promised, a promise names no score, there is no finished run, or
            predictions that tell an interval are of another run.
    """
    del args
    options = load_section("check", CheckOptions)
    if not options.promises:
        raise InputError(
            f"{PARAMS_FILE}: check.promises: nothing is promised, so there is nothing to check; "
            "add a promise such as `accuracy >= 0.9`"
        )
    try:
        known = figures(read_metrics(TEST_METRICS))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{TEST_METRICS}: expected the metrics of a finished run, received others "
            f"({type(error).__name__}: {error}): run `dvc repro` to write them again"
        ) from None
    rows: list[tuple[str, ...]] = []
    results, unknown = [], []
    for text in options.promises:
        promise = Promise.parse(text)
        figure = known.get(promise.name, Figure(None))
        if figure.value is None:
            unknown.append(_unknown(promise, known))
            cells, result = ("", "", ""), "unknown"
        else:
            interval = interval_of(figure)
            judged = interval if options.judge == "interval" else None
            result = "holds" if promise.holds(figure.value, judged) else "broken"
            cells = (
                _shown(figure.value),
                f"{_shown(interval[0])} to {_shown(interval[1])}" if interval else "",
                "interval" if judged else "value",
            )
        results.append(result)
        rows.append((printable(promise.text), *cells, result))
    _print(rows)
    if unknown:
        raise InputError("\n".join(unknown))
    broken = results.count("broken")
    told = f"{broken} of {len(results)} promises broken" if broken else "All promises hold"
    print(told)
    return 1 if broken else 0


def _print(rows: Sequence[tuple[str, ...]]) -> None:
    promise, value, interval, judged, result = zip(*rows, strict=True)
    table = fit(
        [
            Column("promise", promise, right=False),
            Column("value", value),
            Column("95 % interval", interval, spare=1),
            Column("judged by", judged, spare=2),
            Column("", result, right=False),
        ],
        output_width(),
    )
    console = Console(soft_wrap=True, highlight=False)
    for line in table.lines:
        line.highlight_regex(r"holds$", "green")
        line.highlight_regex(r"(broken|unknown)$", "bold red")
        console.print(line)
    if table.left_out:
        console.print(f"Left out for want of room: {', '.join(table.left_out)}")
    console.print()


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _unknown(promise: Promise, known: Mapping[str, Figure]) -> str:
    place = f"{PARAMS_FILE}: check.promises: {promise.text}"
    if promise.name in known:
        return f"{place}: {TEST_METRICS} has no value for it: the test images do not define it"
    if (images := known.get("images")) is not None and images.value == 0:
        return f"{place}: there is no test image, so there are no scores; raise prepare.test"
    near = get_close_matches(promise.name, known, n=3, cutoff=0.4)
    return f"{place}: expected a score of {TEST_METRICS}, received {promise.name}; " + (
        f"the nearest are {', '.join(near)}" if near else "see what is there"
    )
