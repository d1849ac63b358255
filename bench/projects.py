"""A project in a folder of its own, whose stages run in this process."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from headstart.common import places
from headstart.common.files import read_json
from headstart.configuration.params import Params, check_params
from headstart.dataset.manifest import Manifest, read_manifest
from headstart.dataset.prepared import prepare
from headstart.evaluation.evaluate import evaluate
from headstart.extraction.feature_rows import write_features
from headstart.features.file import FeatureFile
from headstart.finetuning.options import FinetuneOptions
from headstart.finetuning.results import fine_tune
from headstart.heads.training import train_heads, write_start
from headstart.samples import SAMPLE_NAMES, write_sample

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


def prepare_and_extract(root: Path, params: Params) -> Manifest:
    """Run the stages of that name in a folder; return the table of the images."""
    prepare(
        params.prepare,
        manifest=root / places.MANIFEST,
        quarantine=root / places.QUARANTINE,
        leaks=root / places.LEAKS,
        corrections=root / places.CORRECTIONS,
        metrics=root / places.DATA_METRICS,
    )
    manifest = read_manifest(root / places.MANIFEST)
    write_features(
        manifest,
        params.extract,
        features=root / places.FEATURES,
        views=root / places.VIEWS_PLOT,
        metrics=root / places.EXTRACT_METRICS,
    )
    return manifest


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
        source = data
        if data in SAMPLE_NAMES:
            write_sample(data, root / "photos")
            source = str(root / "photos")
        heads = {"train.heads": {"logistic": {}}}
        self.params = changed_params({"prepare.source": source, **heads, **changes})
        self.manifest = prepare_and_extract(root, self.params)
        self.file = FeatureFile.open(root / places.FEATURES)
        train_heads(
            self.file,
            self.params.train,
            models=root / places.HEADS,
            metrics=root / places.HEADS_METRICS,
            plots=root / places.HEADS_PLOTS,
        )

    def finetune(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Run the stage with other values of its section; return its metrics."""
        options = FinetuneOptions.model_validate({**self.params.finetune.model_dump(), **changes})
        write_start(self.file, self.params.train, options.start, self.root / places.START)
        fine_tune(
            self.file,
            self.manifest,
            options,
            heads=self.root / places.START,
            model=self.root / places.FINETUNED,
            metrics=self.root / places.FINETUNE_METRICS,
            plots=self.root / places.FINETUNED_PLOTS,
        )
        return dict(read_json(self.root / places.FINETUNE_METRICS))

    def evaluate(self) -> dict[str, Any]:
        """Run the stage; return its metrics."""
        root = self.root
        evaluate(
            self.file,
            self.manifest,
            self.params.evaluate,
            heads=root / places.HEADS,
            trained=root / places.HEADS_METRICS,
            finetuned=root / places.FINETUNED,
            known_leaks=root / places.LEAKS,
            fits=root / places.HEADS_PLOTS,
            finetuned_fit=root / places.FINETUNED_PLOTS,
            metrics=root / places.TEST_METRICS,
            summary=root / places.SUMMARY_METRICS,
            plots=root / places.TEST_PLOTS,
            curves=root / places.CURVES,
            predictions=root / places.PREDICTIONS,
            leaks=root / places.FEATURE_LEAKS,
            weak_clusters=root / places.WEAK_CLUSTERS,
            operating=root / places.OPERATING,
        )
        return dict(read_json(root / places.TEST_METRICS))
