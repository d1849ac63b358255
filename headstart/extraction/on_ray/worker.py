"""What runs on a node: slices of requests in, their vectors into the store, an answer out."""

import os
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from headstart.common.cache import ENVIRONMENT_VARIABLE
from headstart.common.code import digest_of_code
from headstart.common.errors import InputError
from headstart.common.system_errors import remedy_for
from headstart.common.threads import limit_threads
from headstart.extraction import bottleneck as bottlenecks
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.extract import Extraction, Load, extract
from headstart.extraction.requests import Request
from headstart.extraction.store import FeatureStore
from headstart.features.identity import FeatureIdentity
from headstart.images.options import AugmentOptions

_CODE = ("catalog", "common", "dataset", "extraction", "features", "images")

Recover = Callable[[FeatureIdentity], tuple[Bottleneck, Load]]
"""Makes of an identity what computes it, on any node: a function that a module holds."""

Slice = Sequence[tuple[str, str, int]]
"""Path, sha256 and view of each request."""


class Order(BaseModel):
    """What a worker is told, as JSON.

    Attributes:
        code: Digest of the code that computes.
        taps: Identities of the features, as `FeatureIdentity.as_dict` gives them.
        recipe: What makes the views; None where there are none.
        cache: The driver's cache folder; a worker's own, where its environment names one, goes
            before.
        project: The driver's current folder, which relative paths start from.
        lenient: Whether images that cannot be read are left out rather than an error.
        threads: How many a worker may use.
    """

    code: str
    taps: list[dict[str, Any]]
    recipe: AugmentOptions | None
    cache: str
    project: str
    lenient: bool
    threads: int = 1


class Answer(NamedTuple):
    """What a worker says; plain values, whatever went wrong.

    Attributes:
        kind: "done", "refused" (the text is an InputError's) or "failed" (it is a traceback).
        unreadable: Paths of images that were left out.
        text: What went wrong.
    """

    kind: Literal["done", "refused", "failed"]
    unreadable: tuple[str, ...] = ()
    text: str = ""


def code_digest() -> str:
    """Return the digest of all code of the library that decides what a worker computes."""
    return digest_of_code(_CODE)


def recover(identity: FeatureIdentity) -> tuple[Bottleneck, Load]:
    """Return the network of the catalog, or of a file, that an identity names.

    Raises:
        InputError: see `headstart.extraction.bottleneck.recover`.
    """
    return bottlenecks.recover(identity), engines.load


class Worker:
    """Computes slices; engine and index stay between them.

    Args:
        order: An `Order` as JSON.
        recover: Makes what computes the features.
    """

    def __init__(self, order: str, recover: Recover) -> None:
        self._order = order
        self._recover = recover
        self._previous: Extraction | None = None

    def start(self) -> Answer:
        """Check that this node computes what was asked for, to the bit."""
        return _answering(self._start)

    def compute(self, requests: Slice) -> Answer:
        """Bring the vectors of a slice into the store; all are in it, as shards, at the end."""
        return _answering(lambda: self._compute(requests))

    def _start(self) -> Answer:
        order = Order.model_validate_json(self._order)
        if order.code != code_digest():
            raise InputError(
                "the installed Headstart is another than that of the machine that drives Ray; "
                "install the same one on every node"
            )
        limit_threads(order.threads)
        # Where it is missing, paths are absolute, or the first of them is told.
        with suppress(OSError):
            os.chdir(order.project)
        taps = tuple(FeatureIdentity.from_dict(tap) for tap in order.taps)
        bottleneck, self._load = self._recover(taps[0])
        found = bottleneck.taps[0]
        if found.fingerprint != taps[0].fingerprint:
            raise InputError(
                f"extract.engine: expected {taps[0].engine} in {taps[0].precision}, as the machine "
                f"that drives Ray has it, received {found.engine} in {found.precision}; name an "
                "engine that all have"
            )
        self._bottleneck = replace(bottleneck, taps=taps)
        own = os.environ.get(ENVIRONMENT_VARIABLE)
        self._store = FeatureStore(None if own else Path(order.cache))
        self._recipe, self._lenient = order.recipe, order.lenient
        return Answer("done")

    def _compute(self, requests: Slice) -> Answer:
        unreadable: dict[str, str] = {}
        self._previous = extract(
            self._bottleneck,
            [Request(path, sha256, view) for path, sha256, view in requests],
            recipe=self._recipe,
            store=self._store,
            load=self._load,
            previous=self._previous,
            unreadable=unreadable if self._lenient else None,
            quiet=True,
        )
        self._previous.release()
        return Answer("done", tuple(unreadable))


def _answering(work: Callable[[], Answer]) -> Answer:
    try:
        return work()
    except InputError as error:
        return Answer("refused", text=str(error))
    # Everything: an exception would have to be unpickled by the driver, whose class may be unknown
    # to it.
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            what = [name for name in (error.filename, error.filename2) if name is not None]
            said = ": ".join([*map(str, what), os.strerror(error.errno)])
            return Answer("refused", text=f"{said}; {remedy_for(error.errno)}")
        return Answer("failed", text=traceback.format_exc())
