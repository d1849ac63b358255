"""Values on the command line that several commands take, as types for argparse."""

import argparse
from collections.abc import Callable

LARGEST_SEED = 2**32 - 1


def path(text: str) -> str:
    """Return a path as it was written.

    Raises:
        ArgumentTypeError: it is empty: as a path that would be the folder one is in.
    """
    if not text:
        raise argparse.ArgumentTypeError("expected a path, received an empty text")
    return text


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number within limits, both included.

    It raises ArgumentTypeError of anything else.
    """

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {least} to {most}, received {text}"
            )
        return int(text)

    return read
