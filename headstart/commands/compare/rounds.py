"""Which candidates go together, and what params.yaml is in a round on part of the images."""

import math
from collections.abc import Sequence, Set
from copy import deepcopy
from typing import Any

from headstart.commands.compare.candidates import Candidate
from headstart.commands.compare.halving import START, needed
from headstart.commands.compare.reading import Images
from headstart.common.files import digest_of
from headstart.heads import is_cheap

PARAMETERS = 250_000_000
"""Networks are loaded at the same time up to so many parameters, a gigabyte of float32."""


def smallest_share(images: Images, of: float = 1.0, *, shots: bool = False) -> float:
    """Return the smallest share of the images that leaves enough to judge by.

    Training images are held out too, by cross-validation; see `in_round`. Above 1 there are too
    few even of all.

    Args:
        images: How many there are.
        of: The share of them that a candidate has in all.
        shots: Whether few of the training images are used, so that validation images judge alone.
    """
    held_out = images.validation if shots else images.training + images.validation
    needs = needed(images.classes) / max(1, held_out) / of
    # Never less than is needed, which rounding could make it.
    return math.ceil(max(START, needs) * 1e3) / 1e3


def in_round(
    candidate: Candidate, share: float, left_out: Set[str], images: Images | None
) -> dict[str, Any]:
    """Return a candidate's params.yaml in a round.

    Args:
        candidate: Which.
        share: Of its images.
        left_out: Heads that are not trained, see `left_out_of_rounds`.
        images: How many it has; None where that is not known.
    """
    content = on_share(candidate, share)
    train = content["train"]
    # Nobody looks at the curve, nor uses what is fitted once more.
    train["learning_curve"], train["refit"] = "none", False
    for name in left_out:
        del train["heads"][name]
    if images is not None and (
        images.validation * share_of(candidate, share) < needed(images.classes)
    ):
        # More than a class can have: training images are held out as well, by cross-validation.
        train["min_validation"] = images.training + images.validation
    return content


def left_out_of_rounds(candidates: Sequence[Candidate]) -> frozenset[str]:
    """Return the heads that a round need not train: those that take long and are the same in all.

    Linear heads rank backbones as well, in a moment and on many more held-out images. Where
    candidates differ in a slow head, or one has no other, all are trained.
    """
    slow = []
    for one in candidates:
        heads, start = one.params.train.heads, one.params.finetune.start
        slow.append(
            {name: head for name, head in heads.items() if not is_cheap(head) and name != start}
        )
        if len(slow[-1]) == len(heads) or slow[-1] != slow[0]:
            return frozenset()
    return frozenset(slow[0])


def parts(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Return candidates together that see the same images and whose networks fit into memory."""
    by_data: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_data.setdefault(data_key(candidate), []).append(candidate)
    found = []
    for group in by_data.values():
        part: list[Candidate] = []
        for candidate in group:
            networks = {one.bottleneck.spec for one in (*part, candidate)}
            if part and sum(spec.parameters for spec in networks) > PARAMETERS:
                found.append(part)
                part = []
            part.append(candidate)
        found.append(part)
    return found


def data_key(candidate: Candidate) -> str:
    """Return what is the same for candidates that see the same images."""
    sections = (candidate.params.prepare, candidate.params.pretrain)
    return digest_of([section.model_dump(mode="json") for section in sections])


def share_of(candidate: Candidate, share: float) -> float:
    """Return which share of the images that share of its own is."""
    return round(share * candidate.params.extract.share, 6)


def on_share(candidate: Candidate, share: float) -> dict[str, Any]:
    """Return a candidate's params.yaml with a share of its images."""
    content = deepcopy(candidate.content)
    content["extract"]["share"] = share_of(candidate, share)
    return content
