"""The outcome of `headstart compare`, for the page."""

from pathlib import Path
from typing import Any

from headstart.common.errors import InputError
from headstart.report.content import ComparedCandidate, ComparisonPart, ShownScore

SCHEMA = 1


def comparison_part(content: dict[str, Any], source: Path | None) -> ComparisonPart | None:
    """Bring a comparison into the form of the page.

    Args:
        content: The JSON object; empty when there was none.
        source: What to call it in the message.

    Raises:
        InputError: it is of another schema or incomplete.
    """
    if not content:
        return None
    try:
        if content["schema"] != SCHEMA:
            raise KeyError("schema")
        return ComparisonPart(
            candidates=tuple(_candidate(one) for one in content["candidates"]),
            dropped=tuple(
                (one["label"], one["share"], one["validation_accuracy"])
                for one in content["dropped"]
            ),
            failed=tuple(content["failed"]),
            computed=content["forward_passes"]["computed"],
            without_budget=content["forward_passes"]["without_budget"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{source}: expected a comparison of schema {SCHEMA}, but {error} is missing or "
            "different: run `headstart compare` again, or delete the file"
        ) from None


def _candidate(content: dict[str, Any]) -> ComparedCandidate:
    low, high = content["interval"] or (None, None)
    return ComparedCandidate(
        label=content["label"],
        head=content["head"],
        validation=content["validation_accuracy"],
        test=ShownScore(value=content["accuracy"], low=low, high=high),
        milliseconds=content["milliseconds"],
        multiply_adds=content["multiply_adds"],
        parameters=content["parameters"],
        megabytes=content["megabytes"],
        on_front=content["on_front"],
        standing=content["against_winner"] or "",
    )
