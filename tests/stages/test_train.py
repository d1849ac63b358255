import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from headstart import heads
from headstart.commands.params import load_params
from headstart.common.errors import InputError
from headstart.features.file import FeatureFile
from headstart.heads.options import TrainOptions
from headstart.scoring.predictions import Predictions
from pipeline import train
from tests.feature_files import blobs, write_project

ROOT = Path(__file__).parents[2]
HEADS = {
    "logistic": {},
    "svc_fixed": {"kind": "linear_svc", "c": 1e-3},
    "gap": {"epochs": 3, "learning_rate": 0.05},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> FeatureFile:
    features, labels = blobs(60, 3, 8)
    return write_project(tmp_path_factory.mktemp("project"), features, labels)


def _options(**changes: Any) -> TrainOptions:
    given = load_params(ROOT / "params.yaml").train.model_dump()
    return TrainOptions.model_validate({**given, "heads": HEADS, **changes})


def _outputs(root: Path, name: str) -> train.Outputs:
    return train.Outputs(
        model=root / "models" / name,
        metrics=root / f"{name}.json",
        timing=root / "timing" / f"{name}.json",
        plots=root / "plots" / name,
    )


def _run(root: Path, file: FeatureFile, name: str, **changes: Any) -> dict[str, Any]:
    train.run(name, file, _options(**changes), _outputs(root, name))
    content: dict[str, Any] = json.loads((root / f"{name}.json").read_text())
    return content


def _columns(path: Path) -> dict[str, list[float]]:
    with path.open(newline="") as table:
        header, *rows = csv.reader(table)
    return {name: [float(row[i]) for row in rows] for i, name in enumerate(header)}


def test_a_head_is_written_with_scores_and_curve(file: FeatureFile, tmp_path: Path) -> None:
    content = _run(tmp_path, file, "logistic", folds_below=0)
    head = heads.load(tmp_path / "models" / "logistic")
    rows = file.rows("validation")
    right = head.predict_proba(file.features, rows).argmax(axis=1) == file.label[rows]
    assert content["validation"]["accuracy"] == right.mean()
    assert content["validation"]["images"] == len(rows)
    assert content["train"]["images"] == len(file.rows("train"))
    assert content["setting"] == head.card.setting
    assert content["selected_by"] == "validation"
    assert {"ece", "ece_uncalibrated"} < set(content["validation"])
    held_out = Predictions.read(tmp_path / "models" / "logistic" / "held_out.h5")
    np.testing.assert_array_equal(held_out.image, file.image[rows])
    curve = _columns(tmp_path / "plots" / "logistic" / "path.csv")
    assert len(curve["l2"]) == 45
    assert max(curve["accuracy"]) == content["validation"]["accuracy"]


def test_scores_of_folds_are_of_the_validation_images(file: FeatureFile, tmp_path: Path) -> None:
    content = _run(tmp_path, file, "logistic")
    assert content["selected_by"] == "cross-validation"
    assert content["validation"]["images"] == len(file.rows("validation"))
    held_out = Predictions.read(tmp_path / "models" / "logistic" / "held_out.h5")
    assert sorted(held_out.image) == sorted(file.image[file.rows("train", "validation")])


def test_too_few_validation_images_give_scores_of_all_folds(
    file: FeatureFile, tmp_path: Path
) -> None:
    content = _run(tmp_path, file, "svc_fixed", min_validation=1000)
    assert content["validation"]["images"] == len(file.rows("train", "validation"))


def test_a_trained_network_leaves_its_history(file: FeatureFile, tmp_path: Path) -> None:
    content = _run(tmp_path, file, "gap")
    history = _columns(tmp_path / "plots" / "gap" / "history.csv")
    assert history["epoch"] == [1, 2, 3]
    best = int(np.argmin(history["validation_loss"]))
    assert content["setting"] == {"epochs": best + 1}
    assert content["validation"]["accuracy"] == pytest.approx(history["validation_accuracy"][best])


def test_two_runs_give_the_same_bytes_and_time_is_kept_apart(
    file: FeatureFile, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        _run(tmp_path / name, file, "logistic")
    one, two = (
        {
            str(path.relative_to(tmp_path / name)): path.read_bytes()
            for path in sorted((tmp_path / name).rglob("*"))
            if path.is_file()
        }
        for name in ("one", "two")
    )
    timing = one.pop("timing/logistic.json")
    two.pop("timing/logistic.json")
    assert json.loads(timing)["seconds"] > 0
    assert one == two


def test_few_shots_are_repeated_and_their_spread_told(file: FeatureFile, tmp_path: Path) -> None:
    content = _run(tmp_path, file, "logistic", shots=3, repeats=4)
    assert content["train"]["images"] == 9
    told = content["repeats"]
    assert told["count"] == 4
    assert 0.33 < told["accuracy_mean"] < 1
    assert told["accuracy_std"] > 0
    folder = tmp_path / "models" / "logistic"
    assert sorted(path.name for path in (folder / "repeats").iterdir()) == ["1", "2", "3"]
    digests = {heads.load(path).card.data_digest for path in (folder, *folder.glob("repeats/*"))}
    assert len(digests) == 4


def test_class_weight_and_refit_reach_the_head(file: FeatureFile, tmp_path: Path) -> None:
    plain = _run(tmp_path / "plain", file, "svc_fixed")
    weighted = _run(tmp_path / "weighted", file, "svc_fixed", class_weight={"class 0": 50.0})
    recall = [content["train"]["per_class"][0]["recall"] for content in (plain, weighted)]
    assert recall[1] > recall[0]
    _run(tmp_path / "refit", file, "svc_fixed", refit=True)
    assert heads.load(tmp_path / "refit" / "models" / "svc_fixed").card.refit


def _main(root: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headstart.heads.training", *arguments],
        cwd=root, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command_trains_the_head_it_names(tmp_path: Path) -> None:
    features, labels = blobs(40, 2, 8)
    write_project(tmp_path, features, labels)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    done = _main(tmp_path, ["linear_svc"])
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "models" / "linear_svc" / "head.json").is_file()
    assert (tmp_path / "metrics" / "timing" / "linear_svc.json").is_file()


def test_an_unknown_head_ends_in_one_message(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    done = _main(tmp_path, ["forest"])
    assert done.returncode == 1
    assert done.stderr.startswith("error: train: expected the name of one head of params.yaml (")
    assert done.stderr.endswith("received forest\n")


def test_a_changed_feature_file_is_refused(file: FeatureFile, tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    path.write_bytes(file.path.read_bytes())
    with h5py.File(path, "r+") as content:
        content.attrs["feature_digest"] = "0" * 64
    with pytest.raises(InputError, match="feature_digest: expected"):
        FeatureFile.open(path)
