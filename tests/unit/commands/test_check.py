"""What params.yaml promises, judged by the metrics of the last run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from headstart.commands.cli import main
from headstart.common.files import read_json, write_json
from headstart.dataset.manifest import Manifest, ManifestRow, write_manifest
from headstart.scoring.intervals import accuracy_interval
from headstart.scoring.predictions import Predictions

CLASSES = ("cat", 'dog "v1.0" >= 2', "고양이 a.b")
# Of 60 test images in groups of 2, in turn of each class: how many of a class are wrong.
WRONG = (0, 3, 10)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave what a run with one head leaves, as far as promises are judged by it."""
    monkeypatch.chdir(tmp_path)
    label = np.arange(60) % 3
    turn = np.arange(60) // 3
    predicted = np.where(turn < np.array(WRONG)[label], (label + 1) % 3, label)
    rows = [
        ManifestRow(f"{i:02}.png", f"{i:064x}", CLASSES[label[i]], "test", f"{i // 2:02}", 8, 8)
        for i in range(60)
    ]
    write_manifest(Path("data/manifest.csv"), Manifest(rows))
    probabilities = 0.7 * np.eye(3)[predicted] + 0.1
    Predictions(np.arange(60), probabilities).write(Path("predictions/heads/gap.h5"))
    night = {"images": 20, "accuracy": 0.7, "rest": 0.9, "difference": -0.2, "low": -0.45}
    night |= {"high": -0.01, "weak": 1, "intervals": {"accuracy": [0.5, 0.85]}}
    scores = {
        "images": 60,
        "accuracy": 47 / 60,
        "log_loss": 0.4,
        "roc_auc": None,
        "per_class": [
            {
                "class": name,
                "images": 20,
                "precision": float((label == index)[predicted == index].mean()),
                "recall": 1 - WRONG[index] / 20,
                "f1": 0.8,
            }
            for index, name in enumerate(CLASSES)
        ],
        "intervals": {"accuracy": [0.66, 0.88], "log_loss": [0.2, 0.6]},
    }
    coverage = {"wanted": 0.9, "covered": 0.91, "low": 0.84, "high": 0.96}
    selected = {
        "head": "gap",
        "tie": False,
        **scores,
        "coverage": coverage,
        "slices": {"camera": {"f/2.8 밤": night}},
    }
    write_json(
        Path("metrics/test.json"),
        {"selected": selected, "heads": {"gap": scores}, "leaks": {"test_images": 2}},
    )
    return tmp_path


def promise(*promises: Any, judge: str = "interval") -> None:
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump({"check": {"judge": judge, "promises": list(promises)}}, file)


HELD = (
    "accuracy >= 0.66",
    "accuracy<0.89",
    "log_loss <= 6e-1",
    "recall.cat > 0.7",
    "coverage.covered >= 0.84",
    "slices.camera.f/2.8 밤.accuracy >= 0.5",
    "slices.camera.f/2.8 밤.difference >= -0.45",
    'f1.dog "v1.0" >= 2 >= 0.8',
    "f1.고양이 a.b >= 0.8",
    "heads.gap.accuracy >= .66",
    "selected.images >= 60",
    "leaks.test_images < 3",
)


def test_promises_that_hold(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    promise(*HELD)
    assert main(["check"]) == 0
    output = capsys.readouterr().out
    assert output.count(" holds") == len(HELD)
    assert "All promises hold" in output
    for text in HELD:
        assert text in output


@pytest.mark.parametrize(
    "text",
    [
        "accuracy >= 0.67",
        "log_loss <= 0.59",
        "log_loss < 0.6",
        "recall.고양이 a.b >= 0.5",
        "coverage.covered > 0.84",
        "slices.camera.f/2.8 밤.difference > -0.45",
    ],
)
def test_the_whole_interval_must_hold(
    run: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    promise(text, "images >= 1")
    assert main(["check"]) == 1
    output = capsys.readouterr().out
    assert "1 of 2 promises broken" in output
    (line,) = [line for line in output.splitlines() if "broken" in line and text in line]
    assert "interval" in line
    promise(text, judge="value")
    assert main(["check"]) == 0


@pytest.mark.parametrize("score", ["recall", "precision"])
def test_the_interval_of_a_class_knows_groups(
    run: Path, score: str, capsys: pytest.CaptureFixture[str]
) -> None:
    promise(f"{score}.{CLASSES[1]} >= 0.1")
    assert main(["check"]) == 0
    said = Predictions.read(Path("predictions/heads/gap.h5"))
    label, predicted = np.arange(60) % 3, said.probabilities.argmax(axis=1)
    counted = (label if score == "recall" else predicted) == 1
    low, high = accuracy_interval(
        (label == predicted)[counted].astype(float), (np.arange(60) // 2)[counted]
    )
    assert f"{low:.4f} to {high:.4f}" in capsys.readouterr().out


def test_what_has_no_interval_is_judged_by_its_value(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promise("f1.cat >= 0.8")
    assert main(["check"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "f1.cat" in line]
    assert line.split()[-2:] == ["value", "holds"]


def test_a_promise_about_nothing_names_the_nearest_scores(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promise("accuracy >= 0.6", "recal.cat >= 0.5", "roc_auc >= 0.5", "tie >= 0")
    assert main(["check"]) == 1
    told = capsys.readouterr()
    assert told.out.count("unknown") == 3
    assert (
        "params.yaml: check.promises: recal.cat >= 0.5: expected a score of metrics/test.json, "
        "received recal.cat; the nearest are recall.cat," in told.err
    )
    assert "roc_auc >= 0.5: metrics/test.json has no value for it" in told.err


def test_nothing_promised_is_no_success(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    promise()
    assert main(["check"]) == 1
    assert "params.yaml: check.promises: nothing is promised" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["accuracy", "accuracy = 0.9", ">= 0.9", "accuracy >= high", "accuracy >= nan", "a >= 1e999"],
)
def test_a_promise_that_cannot_be_read_is_refused(
    run: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    promise("accuracy >= 0", text)
    assert main(["check"]) == 1
    assert capsys.readouterr().err == (
        "error: params.yaml: check.promises.1: expected a score, one of >=, <=, >, < and a number, "
        f"such as `accuracy >= 0.9`, received {text!r}\n"
    )


def test_without_a_run_or_with_other_metrics_it_says_so(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promise("accuracy >= 0")
    write_json(Path("metrics/test.json"), {"heads": {}})
    assert main(["check"]) == 1
    assert "metrics/test.json: expected the metrics of a finished run" in capsys.readouterr().err
    Path("metrics/test.json").unlink()
    assert main(["check"]) == 1
    assert "metrics/test.json: no such file: there is no finished run" in capsys.readouterr().err


def test_predictions_of_another_run_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promise("recall.cat >= 0.5")
    content = read_json(Path("metrics/test.json"))
    content["selected"]["per_class"][0]["recall"] = 0.9
    write_json(Path("metrics/test.json"), content)
    assert main(["check"]) == 1
    assert (
        "predictions/heads/gap.h5: expected what the model of metrics/test.json said of the images "
        "in data/manifest.csv, received other predictions: run `dvc repro`"
        in capsys.readouterr().err
    )
