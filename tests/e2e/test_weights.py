"""A large backbone without published weights on this machine: random weights, and a file."""

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline import evaluate, extract, finetune, prepare, sample, train

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def _run(weights: str) -> dict[str, Any]:
    """Run the stages on faces with VGG16; return metrics/test.json."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["extract"] |= {"backbone": "VGG16", "weights": weights, "image_size": 32}
    params["train"]["heads"] = {"logistic": {}}
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(params, file)
    for stage in (prepare, extract):
        stage.main([])
    train.main(["logistic"])
    for stage in (finetune, evaluate):
        stage.main([])
    return dict(json.loads(Path("metrics/test.json").read_text()))


def test_vgg16_runs_with_random_weights_and_with_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.common.tensorflow_runtime import keras

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "store"))
    sample.main(["faces"])
    keras.utils.set_random_seed(7)
    network = keras.applications.VGG16(weights=None, include_top=False)
    network.save_weights("vgg16.weights.h5")

    random, from_file = _run("random"), _run("vgg16.weights.h5")
    # Even random convolutions tell faces from other pictures, if their inputs are right.
    assert random["selected"]["accuracy"] >= 0.8
    assert from_file["selected"]["accuracy"] >= 0.8
    assert random["logistic"]["log_loss"] != from_file["logistic"]["log_loss"]
    assert from_file["cost"]["feature_dim"] == 512
