"""A project of made-up features whose heads are trained and evaluated without the stages."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.common.params import load_section
from headstart.dataset.leak_table import write_leaks
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.evaluation.evaluate import evaluate
from headstart.evaluation.options import EvaluateOptions
from headstart.features.file import FeatureFile
from headstart.heads.options import TrainOptions
from headstart.heads.training import train_heads
from tests.feature_files import write_project

ROOT = Path(__file__).parents[1]


@dataclass
class Project:
    root: Path
    file: FeatureFile
    manifest: Manifest

    @classmethod
    def make(cls, root: Path, features: np.ndarray, labels: np.ndarray, **more: Any) -> "Project":
        """Write features, and data/leaks.csv without a leak."""
        file = write_project(root, features, labels, **more)
        write_leaks(root / "data/leaks.csv", [])
        return cls(root, file, read_manifest(root / "data/manifest.csv"))

    def train(self, chosen: dict[str, dict[str, Any]]) -> None:
        given = load_section("train", TrainOptions, ROOT / "params.yaml").model_dump()
        train_heads(
            self.file,
            TrainOptions.model_validate({**given, "heads": chosen}),
            models=self.root / "models/heads",
            metrics=self.root / "metrics/heads.json",
            plots=self.root / "plots/heads",
        )

    def run(
        self, folder: str = ".", *, known_leaks: Path | None = None, **options: Any
    ) -> dict[str, Any]:
        """Evaluate; outputs lie in a folder under the root."""
        root = self.root / folder
        evaluate(
            self.file,
            self.manifest,
            load_section("evaluate", EvaluateOptions, ROOT / "params.yaml").model_copy(
                update=options
            ),
            heads=self.root / "models/heads",
            trained=self.root / "metrics/heads.json",
            finetuned=self.root / "models/finetuned",
            known_leaks=known_leaks or self.root / "data/leaks.csv",
            fits=self.root / "plots/heads",
            finetuned_fit=self.root / "plots/finetuned",
            metrics=root / "test.json",
            summary=root / "summary.json",
            plots=root / "plots/test",
            curves=root / "plots/curves",
            predictions=root / "predictions",
            leaks=root / "feature_leaks.csv",
            weak_clusters=root / "weak_clusters.csv",
            operating=root / "operating.json",
        )
        content: dict[str, Any] = json.loads((root / "test.json").read_text())
        return content

    def with_columns(self, **columns: np.ndarray) -> "Project":
        """Give each image a value of some columns, as a table of the source would."""
        rows = [
            row._replace(columns=tuple(str(values[number]) for values in columns.values()))
            for number, row in enumerate(self.manifest)
        ]
        return Project(self.root, self.file, Manifest(rows, columns))
