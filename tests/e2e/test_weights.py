"""A large backbone without published weights on this machine: random weights, and a file."""

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from headstart.samples import write_sample
from pipeline import evaluate, extract, finetune, prepare, train

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def _run(weights: str) -> dict[str, Any]:
    """Run the stages on faces with VGG16; return the metrics of extract and evaluate."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["extract"] |= {"backbone": "VGG16", "weights": weights, "image_size": 32}
    params["train"]["heads"] = {"logistic": {}}
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(params, file)
    for stage in (prepare, extract, train, finetune, evaluate):
        stage.main()
    return {
        name: json.loads(Path(f"metrics/{name}.json").read_text()) for name in ("extract", "test")
    }


def test_vgg16_runs_with_random_weights_and_with_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.common.tensorflow_runtime import keras

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "store"))
    write_sample("faces", Path("data/samples/faces"))
    keras.utils.set_random_seed(7)
    network = keras.applications.VGG16(weights=None, include_top=False)
    network.save_weights("vgg16.weights.h5")

    random, from_file = _run("random"), _run("vgg16.weights.h5")
    # Even random convolutions tell faces from other pictures, if their inputs are right.
    scores = [run["test"]["heads"]["logistic"] for run in (random, from_file)]
    assert min(one["accuracy"] for one in scores) >= 0.8
    assert scores[0]["log_loss"] != scores[1]["log_loss"]
    assert from_file["extract"]["feature_dim"] == 512
