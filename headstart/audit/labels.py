"""Which labels are likely wrong: what a linear head and the neighbors say of images unseen."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from headstart.audit.noise import confident_errors, wrong_odds
from headstart.audit.strangers import Strangers, nearest_strangers
from headstart.common.threads import one_thread_each
from headstart.heads.base import FitReport
from headstart.heads.data import TrainingData
from headstart.heads.logistic import L2_PATH, LogisticHead
from headstart.heads.options import LogisticOptions
from headstart.scoring.calibration import softmax

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

VOTES = 10
"""Neighbors of other units that vote on an image's class."""

_SOUGHT = 2 * VOTES
_WEAKEST = 1.0


class _ProbeHead(LogisticHead):
    """The path's stronger penalties, further apart, up to where the curve turns.

    Labels with errors are served by these, and weaker ones take most of the time.
    """

    grid = tuple(penalty for penalty in L2_PATH if penalty >= _WEAKEST)
    stride = 2
    patience = 6


@dataclass(frozen=True)
class Judgement:
    """What images unseen say of the labels.

    Attributes:
        data: What was learned from.
        rows: (n_judged,) rows of the feature file, in its order: images that could be held out.
        label: (n_judged,) as given.
        logits: (n_judged, n_classes) of head and neighbors together.
        probabilities: (n_judged, n_classes) of the head alone, trained on all other labels.
        odds: (n_judged,) log odds that the label is wrong.
        errors: How many labels are wrong, by confident learning.
        penalty: Of the head.
        near: The nearest images of every image of `data.train`.
    """

    data: TrainingData
    rows: Rows
    label: Rows
    logits: Floats
    probabilities: Floats
    odds: Floats
    errors: float
    penalty: float
    near: Strangers

    @cached_property
    def score(self) -> Floats:
        """(n_judged,) probability that the label is wrong."""
        return np.asarray(expit(self.odds))

    @cached_property
    def suggested(self) -> Rows:
        """(n_judged,) the likeliest class besides the label."""
        others = self.logits.copy()
        others[np.arange(len(others)), self.label] = -np.inf
        return np.asarray(others.argmax(axis=1))

    @cached_property
    def suspects(self) -> Rows:
        """Positions of the labels that are doubted, the most doubtful first.

        As many as confident learning finds wrong, and all that are likelier wrong than right.
        """
        order = np.argsort(-self.odds, kind="stable")
        return order[: max(round(self.errors), int((self.odds > 0).sum()))]


def judge(data: TrainingData) -> Judgement | None:
    """Judge every label by what was learned from other images.

    A linear head is cross-validated over all images, and once more without those whose labels the
    first round contradicts with confidence: these would bend it to themselves. They are then judged
    by what the others teach. The nearest images of other units vote besides, those in doubt left
    out.

    Args:
        data: All labelled images as training images; units are never torn apart.

    Returns:
        None where nothing can be held out.
    """
    rows = data.train_images
    with one_thread_each():
        head, report = _fit(data)
        if not len(report.held_out):
            return None
        judged, first = _in_order(report)
        label = data.label[judged]
        probabilities = softmax(first)
        doubted, errors = confident_errors(probabilities, label)
        trusted = _trusted(data, judged[doubted])
        penalty = head.card.setting["l2"]
        second = first.copy()
        if len(trusted) < len(rows):
            head, report = _fit(replace(data, train=trusted), penalty)
            again, logits = _in_order(report)
            place = np.searchsorted(judged, again)
            inside = judged[np.minimum(place, len(judged) - 1)] == again
            second[place[inside]] = logits[inside]
            out = ~np.isin(judged, trusted)
            left_out = head.predict_logits(data.features, judged[out])
            second[out] = left_out / head.card.temperature
        near = nearest_strangers(data.features, rows, data.unit[rows], _SOUGHT)
    voters = np.isin(rows, trusted)
    votes = _votes(near, voters, data.label[rows], data.n_classes)[np.searchsorted(rows, judged)]
    logits = (_centered(second) + _centered(votes)) / 2
    return Judgement(
        data=data,
        rows=judged,
        label=label,
        logits=logits,
        probabilities=probabilities,
        odds=wrong_odds(logits, label, errors),
        errors=errors,
        penalty=penalty,
        near=near,
    )


def _fit(data: TrainingData, penalty: float | None = None) -> tuple[LogisticHead, FitReport]:
    options = LogisticOptions(kind="logistic", l2="auto" if penalty is None else penalty)
    head = _ProbeHead(options, data.seed)
    return head, head.fit(data)


def _in_order(report: FitReport) -> tuple[Rows, Floats]:
    """Return the rows that were held out, sorted, and their logits at their temperatures."""
    order = np.argsort(report.held_out)
    logits = np.asarray(report.logits / report.temperatures, np.float64)
    return report.held_out[order], logits[order]


def _trusted(data: TrainingData, doubted: Rows) -> Rows:
    """Return the images without those in doubt and what belongs to them.

    A class that would lose more than half of its images keeps them all: then it is not some labels
    that are wrong.
    """
    rows = data.train_images
    out = np.isin(data.unit[rows], data.unit[doubted])
    label = data.label[rows]
    lost, total = (np.bincount(label[of], minlength=data.n_classes) for of in (out, slice(None)))
    return np.asarray(rows[~out | (2 * lost > total)[label]])


def _votes(
    near: Strangers, voters: npt.NDArray[np.bool_], label: Rows, n_classes: int
) -> npt.NDArray[np.float32]:
    """Return log shares of the classes among each image's nearest voters, (n_images, n_classes).

    Each votes by its cosine. One vote more is spread over all classes.
    """
    may = (near.position >= 0) & voters[near.position]
    may &= np.cumsum(may, axis=1) <= VOTES
    weight = np.where(may, np.maximum(near.similarity, np.float32(1e-3)), 0)
    shares = np.zeros((len(label), n_classes), np.float32)
    image, column = np.nonzero(may)
    np.add.at(shares, (image, label[near.position[image, column]]), weight[image, column])
    shares *= VOTES / np.maximum(weight.sum(axis=1, keepdims=True), np.float32(1e-6))
    return np.log((shares + 1) / (VOTES + n_classes))


def _centered(logits: npt.NDArray[np.float32] | Floats) -> Floats:
    return np.asarray(logits - logits.mean(axis=1, keepdims=True), np.float64)
