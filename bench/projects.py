"""A project in a folder of its own, whose stages run in this process."""

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from headstart.commands.params import Params, check_params
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.features.file import FeatureFile
from pipeline import evaluate, extract, finetune, prepare, sample, train

ROOT = Path(__file__).resolve().parents[1]


def changed_params(changes: dict[str, Any]) -> Params:
    """Return the committed params.yaml with other values for some dotted keys."""
    content = YAML(typ="safe").load(ROOT / "params.yaml")
    for key, value in changes.items():
        *path, last = key.split(".")
        section = content
        for name in path:
            section = section.setdefault(name, {})
        section[last] = value
    return check_params(content)


class Project:
    """Stages up to `train` for one set of params; `finetune` for others of that section."""

    def __init__(self, root: Path, data: str, changes: dict[str, Any]) -> None:
        """Prepare, extract and train the logistic head.

        Args:
            root: Folder of the project.
            data: "faces", "digits" or a folder of photos.
            changes: Values of params.yaml by dotted key.
        """
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        source = data
        if data in ("faces", "digits"):
            sample.run(data, root / "photos")
            source = str(root / "photos")
        heads = {"train.heads": {"logistic": {}}}
        self.params = changed_params({"prepare.source": source, **heads, **changes})
        prepare.run(
            self.params.prepare,
            manifest=root / "manifest.csv",
            quarantine=root / "quarantine.csv",
            leaks=root / "leaks.csv",
            metrics=root / "data.json",
        )
        self.manifest: Manifest = read_manifest(root / "manifest.csv")
        outputs = extract.Outputs(
            root / "bottleneck.h5", root / "views.png", root / "extract.json", root / "t.json"
        )
        extract.run(self.manifest, self.params.extract, outputs=outputs)
        self.file = FeatureFile.open(root / "bottleneck.h5")
        outputs = train.Outputs(
            root / "models/logistic", root / "logistic.json", root / "t.json", root / "plots"
        )
        train.run("logistic", self.file, self.params.train, outputs)

    def finetune(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Run the stage with other values of its section; return its metrics."""
        options = self.params.finetune.model_validate(
            {**self.params.finetune.model_dump(), **changes}
        )
        root = self.root
        outputs = finetune.Outputs(
            root / "models/finetuned", root / "finetune.json", root / "t.json", root / "plots"
        )
        finetune.run(
            self.file,
            self.manifest,
            root / "models/logistic",
            options,
            self.params.train,
            self.params.extract,
            outputs=outputs,
        )
        return dict(json.loads((root / "finetune.json").read_text()))

    def evaluate(self, *, finetuned: bool) -> dict[str, Any]:
        """Run the stage; return its metrics."""
        root = self.root
        outputs = evaluate.Outputs(
            root / "test.json",
            root / "plots/test",
            root / "plots/curves",
            root / "predictions",
            root / "feature_leaks.csv",
        )
        evaluate.run(
            self.file,
            self.manifest,
            {"logistic": root / "models/logistic"},
            self.params.evaluate,
            outputs,
            finetuned=root / "models/finetuned" if finetuned else None,
        )
        return dict(json.loads((root / "test.json").read_text()))
