"""How long models took to train on this machine.

It is kept in the cache folder, under the digest of the model's card, and not in the model's own
files: two equal runs write the same bytes, however long they take.
"""

import platform
from pathlib import Path
from typing import Any

from headstart.common.cache import Keep
from headstart.common.files import sha256_of


def keep_seconds(card: Path, seconds: float, cache: Path | None = None) -> None:
    """Keep how long a model took to train.

    Args:
        card: Its card, which holds the digests of all that it consists of.
        seconds: Without passes through frozen layers, which run once for many models.
        cache: The cache folder; the user's by default.
    """
    Keep("times", cache).put(_key(card), seconds)


def kept_seconds(card: Path, cache: Path | None = None) -> float | None:
    """Return how long a model took to train; None where it was not trained on this machine.

    Args:
        card: Its card.
        cache: The cache folder; the user's by default.
    """
    kept = Keep("times", cache).get(_key(card))
    return None if kept is None else float(kept)


def _key(card: Path) -> list[Any]:
    return ["training", platform.node(), sha256_of(card)]
