"""At which probabilities a model names a class, several or none: fitted, checked, carried.

Fitted on held-out images alone; what that is worth is measured on test images. The model that uses
it has often learned from the held-out images besides (`train.refit`, folds): it is a little better
than those that were asked, so that sets hold the true class rather too often than too seldom.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.common import places
from headstart.common.errors import InputError
from headstart.common.files import sha256_of
from headstart.common.progress import notify
from headstart.common.seal import read_sealed_json, write_sealed_json
from headstart.dataset.manifest import Manifest
from headstart.evaluation.options import EvaluateOptions
from headstart.heads.base import CARD_FILE
from headstart.scoring.conformal import ClassSets, fit_sets
from headstart.scoring.costs import CostRule
from headstart.scoring.intervals import units
from headstart.scoring.metrics import Floats, Labels
from headstart.scoring.predictions import Predictions

FORMAT = 1
_REMEDY = "run `dvc repro evaluate` to write it anew"


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What decides on one model's probabilities.

    Attributes:
        class_names: One per column of the probabilities.
        sets: Which classes are in an image's set; None where `evaluate.coverage` is null.
        costs: Which class is named, if any; None where nothing is said of costs.
        held_out_cost: What its decisions cost on the images that calibrated the probabilities.
    """

    class_names: tuple[str, ...]
    sets: ClassSets | None
    costs: CostRule | None
    held_out_cost: float | None = None

    def check(
        self, labels: Labels, probabilities: Floats, groups: npt.NDArray[np.integer[Any]]
    ) -> dict[str, Any]:
        """Return what it is worth on test images, as JSON types.

        Args:
            labels: (n_samples,).
            probabilities: (n_samples, n_classes).
            groups: (n_samples,) images of one group (>= 0) belong together.
        """
        result: dict[str, Any] = {}
        if self.sets is not None:
            result["coverage"] = self.sets.check(labels, probabilities, groups, self.class_names)
        if self.costs is not None:
            found = self.costs.check(labels, probabilities, groups)
            result["decisions"] = {**found, "held_out_cost": self.held_out_cost}
        return result

    def as_dict(self) -> dict[str, Any]:
        """Return what another program needs to decide the same, as JSON types."""
        result: dict[str, Any] = {}
        if self.sets is not None:
            result["sets"] = self.sets.as_dict(self.class_names)
        if self.costs is not None:
            result["decisions"] = self.costs.as_dict(self.class_names)
        return result

    @classmethod
    def from_dict(
        cls, content: Mapping[str, Any], class_names: tuple[str, ...]
    ) -> "OperatingPoint":
        """Undo `as_dict`."""
        sets, costs = content.get("sets"), content.get("decisions")
        return cls(
            class_names,
            None if sets is None else ClassSets.from_dict(sets, class_names),
            None if costs is None else CostRule.from_dict(costs, class_names),
        )


def fit_points(
    options: EvaluateOptions,
    names: Iterable[str],
    held_out: Mapping[str, Predictions],
    manifest: Manifest,
    class_names: tuple[str, ...],
    class_weight: npt.NDArray[np.float64],
) -> dict[str, OperatingPoint]:
    """Fit an operating point per model on its held-out images; none where none is asked for.

    Args:
        options: The section `evaluate`.
        names: Of the models.
        held_out: What they said of images that they were not fitted to, where there were any.
        manifest: Where their labels and groups stand.
        class_names: One per column of the probabilities.
        class_weight: (n_classes,) what an image of a class counted in training.

    Raises:
        InputError: costs are not what they should be.
    """
    costs = CostRule.of(options.costs, options.abstain_cost, class_names, class_weight)
    if options.coverage is None and costs is None:
        return {}
    points, lacking = {}, {}
    nothing = Predictions(np.empty(0, np.int64), np.empty((0, len(class_names))))
    for name in names:
        one = held_out.get(name, nothing)
        labels, groups = manifest.labels[one.image], manifest.groups[one.image]
        sets = None
        if options.coverage is not None:
            sets = fit_sets(labels, one.probabilities, units(groups), options.coverage)
            if not sets.threshold.any():
                lacking[name] = sets
        found = costs.check(labels, one.probabilities, groups) if costs is not None else {}
        points[name] = OperatingPoint(class_names, sets, costs, found.get("cost"))
    if lacking:
        fewest = min(int(one.units.max()) for one in lacking.values())
        sets = next(iter(lacking.values()))
        notify(
            f"warning: evaluate.coverage: {sets.wanted:g} takes {sets.needed:,} held-out units "
            f"(images that belong together count once), and there are {fewest:,}: the sets of "
            f"{', '.join(lacking)} hold all classes"
        )
    return points


def write_points(
    path: Path, points: Mapping[str, OperatingPoint], folders: Mapping[str, Path]
) -> None:
    """Write what decides on each model's probabilities.

    Args:
        path: The JSON file.
        points: By the model's name.
        folders: Of each model; a point belongs to the card that lies there.
    """
    models = {
        name: {"card_sha256": sha256_of(folders[name] / CARD_FILE), **point.as_dict()}
        for name, point in points.items()
    }
    write_sealed_json(path, {"format": FORMAT, "models": models})


def find_point(folder: Path, class_names: tuple[str, ...]) -> tuple[OperatingPoint | None, str]:
    """Return what decides on the probabilities of a model of a project.

    Args:
        folder: The model's, such as models/heads/logistic.
        class_names: Its classes.

    Returns:
        The operating point and an empty text; or None and why there is none, without a reason
        where none was asked for.

    Raises:
        InputError: operating.json is damaged or of another format.
    """
    above = folder.absolute().parents[:2]
    name = places.OPERATING.name
    path = next((place / name for place in above if (place / name).is_file()), None)
    if path is None:
        return None, ""
    content = read_sealed_json(path, _REMEDY)
    if content.get("format") != FORMAT:
        raise InputError(
            f"{path}: expected operating points of format {FORMAT}, received "
            f"{content.get('format', 'none')}: {_REMEDY}"
        )
    if not content["models"]:
        return None, ""
    card = sha256_of(folder / CARD_FILE)
    for one in content["models"].values():
        if one["card_sha256"] == card:
            return OperatingPoint.from_dict(one, class_names), ""
    return None, f"{path}: made for other models than the one in {folder}"
