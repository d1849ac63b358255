"""How the score of a head grows with the number of training images."""

from dataclasses import replace

import numpy as np

from headstart.common.threads import in_order, one_thread_each
from headstart.features.matrix import matrix_bytes
from headstart.heads import create, is_cheap
from headstart.heads.data import TrainingData
from headstart.heads.options import HeadOptions
from headstart.heads.selection import PathHead
from headstart.scoring.metrics import log_loss

_STEPS = (1, 2, 5)
_NOISY_UP_TO = 10
# Further apart, a fit starts so far from its end that it takes longer than the ones left out.
_STRIDE = 2
_DRAWS = 3
# Up to this size of the features several fits run side by side, each with what it needs of memory.
_LARGE_BYTES = 256 * 1024**2


def learning_curve(options: HeadOptions, data: TrainingData, seed: int) -> list[dict[str, float]]:
    """Fit the head to ever more training images per class and score the validation images.

    The setting is chosen anew at each size, on the validation images, of every second one of the
    path; each part of them is scored at what the others choose. Sizes are 1, 2, 5, 10, ..., and
    all; a larger set of images holds the smaller ones. Of a unit a second image comes in only once
    all have given one. Up to 10 images per class the mean of three draws is taken.

    Args:
        options: The head.
        data: What to learn from.
        seed: Of the draws and the head.

    Returns:
        Points with images_per_class, accuracy and log_loss; none where there are too few
        validation units to be scored on.
    """
    if not data.validation_suffices:
        return []
    most = int(np.bincount(data.label[data.train_images]).max())
    jobs = [
        (size, (seed + draw) % 2**32)
        for size in (*_sizes_below(most), most)
        for draw in range(_DRAWS if size <= min(_NOISY_UP_TO, most - 1) else 1)
    ]
    # The long ones first, so that no core waits for the last.
    jobs.reverse()
    if is_cheap(options) and matrix_bytes(data.features, data.train) <= _LARGE_BYTES:
        with one_thread_each():
            scores = list(in_order(lambda job: _score(options, data, *job), jobs))
    else:
        scores = [_score(options, data, *job) for job in jobs]
    points = []
    for size in sorted({size for size, _ in jobs}):
        own = [score for (of, _), score in zip(jobs, scores, strict=True) if of == size]
        accuracy, mean_loss = np.mean(own, axis=0).tolist()
        points.append({"images_per_class": size, "accuracy": accuracy, "log_loss": mean_loss})
    return points


def _sizes_below(most: int) -> tuple[int, ...]:
    sizes = (step * 10**power for power in range(len(str(most))) for step in _STEPS)
    return tuple(size for size in sizes if size < most)


def _score(options: HeadOptions, data: TrainingData, size: int, seed: int) -> tuple[float, float]:
    # Folds would put validation images on the training side, more than the few that are meant.
    few = replace(data.few(size, seed), folds_below=0)
    head = create(options, seed)
    if isinstance(head, PathHead):
        head.stride = _STRIDE
    report = head.fit(few)
    labels = data.label[report.held_out]
    probabilities = report.probabilities
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return accuracy, log_loss(labels, probabilities)
