"""Scores of the test images by the values of a column that the source brought along."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common.errors import InputError
from headstart.dataset.manifest import Manifest
from headstart.scoring.intervals import units
from headstart.scoring.metrics import Floats, Labels, named
from headstart.scoring.weakness import FEWEST_UNITS, compare, has_enough, holm

MOST_VALUES = 100
"""Of a column, that are scored: those with most images. A correction for more tests leaves little
to be found, and metrics that nobody can read."""


def check_columns(names: Sequence[str], manifest: Manifest) -> None:
    """Check that the source's table has the columns that `evaluate.slices` names.

    Raises:
        InputError: it has not.
    """
    unknown = [name for name in names if name not in manifest.column_names]
    if unknown:
        there = named(manifest.column_names) if manifest.column_names else "none"
        raise InputError(
            f"params.yaml: evaluate.slices: expected columns of prepare.source beside path, label, "
            f"split and group, of which there are {there}; received {', '.join(unknown)}. "
            "A folder brings no columns: name a .csv file as prepare.source, or remove them here"
        )


def score_slices(
    names: Sequence[str],
    manifest: Manifest,
    image: npt.NDArray[np.int64],
    labels: Labels,
    probabilities: Floats,
    groups: npt.NDArray[np.int64],
    *,
    seed: int,
) -> dict[str, Any]:
    """Score each value of some columns against the rest of the images that have a value.

    Args:
        names: The columns.
        manifest: Their values.
        image: (n_samples,) rows of the manifest.
        labels: (n_samples,).
        probabilities: (n_samples, n_classes).
        groups: (n_samples,) images of one group (>= 0) count once.
        seed: Of the draws that tell what is chance.

    Returns:
        `slices`, by column and value, and `slices_left_out`, by column; empty without columns.
    """
    if not names:
        return {}
    unit, predicted = units(groups), probabilities.argmax(axis=1)
    parts: dict[tuple[str, str], npt.NDArray[np.int64]] = {}
    left_out = {}
    for name in dict.fromkeys(names):
        position = manifest.column_names.index(name)
        values = np.array([manifest.rows[row].columns[position] for row in image], np.str_)
        found, left_out[name] = _parts(values, unit)
        parts |= {(name, value): code for value, code in found.items()}
    compared = {}
    for key, code in parts.items():
        among = code >= 0
        compared[key] = compare(
            labels[among], predicted[among], unit[among], code[among] > 0,
            n_tests=len(parts), seed=seed,
        )  # fmt: skip
    slices: dict[str, dict[str, Any]] = {name: {} for name in left_out}
    p_values = holm([one.p for one in compared.values()])
    for ((name, value), one), p in zip(compared.items(), p_values, strict=True):
        slices[name][value] = {**one.told(p), "weak": int(one.is_weak(p))}
    return {"slices": slices, "slices_left_out": left_out}


def _parts(
    values: npt.NDArray[np.str_], unit: npt.NDArray[np.int64]
) -> tuple[dict[str, npt.NDArray[np.int64]], dict[str, int]]:
    """Return the values to score: 1 where an image has it, 0 another one, -1 none; and the rest."""
    has = np.char.strip(values) != ""
    texts, code, images = np.unique(values[has], return_inverse=True, return_counts=True)
    pairs = np.unique(code * (unit.max(initial=0) + 1) + unit[has])
    n_units = np.bincount(pairs // (unit.max(initial=0) + 1), minlength=len(texts))
    enough = np.flatnonzero(n_units >= FEWEST_UNITS)
    chosen = enough[np.argsort(-images[enough], kind="stable")][:MOST_VALUES]
    found = {}
    for index in sorted(chosen):
        if has_enough(unit[has], code == index):
            part = np.full(len(values), -1)
            part[has] = code == index
            found[str(texts[index])] = part
    too_many = len(enough) - len(chosen)
    left_out = {
        "too_few": len(texts) - len(found) - too_many,
        "too_many": too_many,
        "without_value": int(len(values) - has.sum()),
    }
    return found, left_out
