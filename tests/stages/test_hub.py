"""The stages on a tiny transformer with a preset's folder: features, fine-tuning, predictions."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from headstart import catalog
from headstart.commands import cli
from headstart.scoring.predictions import Predictions
from pipeline import evaluate, extract, finetune, novelty, prepare, report, train
from tests.hub_specs import spec_of

pytest.importorskip("keras_hub", reason="hub backbones need the extra: headstart[hub]")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(
    photo_folder: Path,
    hub_folder: Callable[[str, str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """Warm and cold photos; the whole pipeline on a DINOv2 of four blocks, the last learning."""
    root = tmp_path_factory.mktemp("hub")
    shutil.copytree(photo_folder, root / "photos")
    shutil.copytree(hub_folder("transformers", "dinov2"), root / "preset")
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    params["prepare"]["source"] = "photos"
    params["extract"] |= {"backbone": "Tiny_dinov2", "weights": "preset", "pooling": "cls+avg"}
    params["train"]["heads"] = {"logistic": {}}
    params["finetune"] |= {"unfreeze": "last_block", "epochs": 2, "learning_rate": 1e-3}
    params["report"] |= {"projections": ["pca"]}
    YAML().dump(params, root / "params.yaml")
    entries = (*catalog.specs(), spec_of("dinov2"))
    with pytest.MonkeyPatch.context() as patch, chdir(root):
        patch.setattr(catalog, "specs", lambda: entries)
        for stage in (prepare, extract, train, novelty, finetune, evaluate, report):
            stage.main()
        yield root


def test_features_are_those_of_the_preset(project: Path) -> None:
    metrics = json.loads((project / "metrics/extract.json").read_text())
    assert metrics["feature_dim"] == 48
    scores = json.loads((project / "metrics/test.json").read_text())
    assert scores["heads"]["logistic"]["accuracy"] >= 0.8


def test_the_last_block_is_what_has_learned(project: Path) -> None:
    metrics = json.loads((project / "metrics/finetune.json").read_text())
    assert metrics["cut"] == "block_3"
    assert metrics["trunk"] == "cached"
    assert max(metrics["parity"].values()) < 1e-4


@pytest.mark.parametrize("head", ["logistic", "finetuned"])
def test_predictions_are_those_of_evaluate(
    project: Path, head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with (project / "data/manifest.csv").open(newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file) if row["split"] == "test"]
    capsys.readouterr()
    arguments = ["predict", *paths, "--head", head, "--no-abstain", "--format", "json"]
    assert cli.main(arguments) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    file = f"predictions/heads/{head}.h5" if head == "logistic" else "models/finetuned/test.h5"
    expected = Predictions.read(project / file).probabilities
    for one, probabilities in zip(told, expected, strict=True):
        given = {entry["class"]: entry["probability"] for entry in one["classes"]}
        wanted = dict(zip(("cold", "warm"), probabilities, strict=True))
        assert given == pytest.approx(wanted, abs=1e-5)
