"""All heads on the cached features: what is written, and what is fitted again after an edit."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ruamel.yaml import YAML

from headstart import heads
from headstart.common.cache import Keep
from headstart.common.errors import InputError
from headstart.common.params import load_section
from headstart.features.file import FeatureFile
from headstart.heads import training
from headstart.heads.base import repeat_folders
from headstart.heads.options import TrainOptions
from headstart.scoring.predictions import Predictions
from tests.feature_files import blobs, spread_splits, write_project

ROOT = Path(__file__).parents[2]
SVC = {"kind": "linear_svc", "c": 1e-3}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> FeatureFile:
    features, labels = blobs(60, 3, 8)
    return write_project(tmp_path_factory.mktemp("project"), features, labels)


def make_options(heads: dict[str, dict[str, Any]], **changes: Any) -> TrainOptions:
    given = load_section("train", TrainOptions, ROOT / "params.yaml").model_dump()
    return TrainOptions.model_validate({**given, "heads": heads, **changes})


def _run(
    root: Path, file: FeatureFile, heads: dict[str, dict[str, Any]], **changes: Any
) -> dict[str, Any]:
    """Fit the heads with a cache of their own under `root`; return the scores by head."""
    training.train_heads(
        file,
        make_options(heads, **changes),
        models=root / "models",
        metrics=root / "heads.json",
        plots=root / "plots",
        keep=Keep("fits", root / "cache"),
    )
    content: dict[str, Any] = json.loads((root / "heads.json").read_text())
    return content


def _bytes(*folders: Path) -> dict[str, bytes]:
    return {
        f"{folder.name}/{path.relative_to(folder)}": path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kinds of the heads that are fitted, in order."""
    kinds: list[str] = []
    fit = training._fit

    def counted(file: Any, data_of: Any, head: Any, *rest: Any) -> None:
        kinds.append(head.kind)
        fit(file, data_of, head, *rest)

    monkeypatch.setattr(training, "_fit", counted)
    return kinds


def _columns(path: Path) -> dict[str, list[float]]:
    with path.open(newline="") as table:
        header, *rows = csv.reader(table)
    return {name: [float(row[i]) for row in rows] for i, name in enumerate(header)}


def test_a_head_is_written_with_scores_and_curve(file: FeatureFile, tmp_path: Path) -> None:
    content = _run(tmp_path, file, {"logistic": {}}, folds_below=0)["logistic"]
    head = heads.load(tmp_path / "models" / "logistic")
    rows = file.rows("validation")
    assert content["validation"]["images"] == len(rows)
    assert "folds" not in content["validation"]
    assert content["train"]["images"] == len(file.rows("train"))
    assert content["setting"] == head.card.setting
    assert content["selected_by"] == "validation"
    assert {"ece", "ece_uncalibrated"} < set(content["validation"])
    held_out = Predictions.read(tmp_path / "models" / "logistic" / "held_out.h5")
    np.testing.assert_array_equal(held_out.image, file.image[rows])
    right = held_out.probabilities.argmax(axis=1) == file.label[rows]
    assert content["validation"]["accuracy"] == right.mean()
    curve = _columns(tmp_path / "plots" / "logistic" / "path.csv")
    assert len(curve["l2"]) == 45
    # The best of the curve was chosen by the images that it is counted on.
    assert max(curve["accuracy"]) >= content["validation"]["accuracy"]


@pytest.mark.parametrize(
    "head",
    [{"ridge": {}}, {"knn": {}}, {"gap": {"epochs": 30, "learning_rate": 0.05}}],
    ids=lambda head: next(iter(head)),
)
@pytest.mark.parametrize("folds_below", [0, 10**6])
def test_a_score_on_noise_is_that_of_chance(
    tmp_path: Path, head: dict[str, Any], folds_below: int
) -> None:
    """Where there is nothing to learn, the best of many settings must not look like something."""
    reported, best = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        features = rng.standard_normal((200, 12)).astype(np.float32)
        file = write_project(tmp_path / str(seed), features, rng.permutation(np.arange(200) % 2))
        own = _run(tmp_path / str(seed), file, head, folds_below=folds_below)
        (content,) = own.values()
        reported.append(content["validation"]["accuracy"])
        name = "gap" if "gap" in head else next(iter(head))
        curve = "history" if name == "gap" else "path"
        scored = _columns(tmp_path / str(seed) / "plots" / name / f"{curve}.csv")
        best.append(max(scored.get("accuracy", scored.get("validation_accuracy", []))))
    # 320 images in all, or with folds 1,280: a standard error of 2.8 or 1.4 points.
    assert np.mean(reported) == pytest.approx(0.5, abs=0.06)
    assert np.mean(best) > np.mean(reported) + 0.01


def test_scores_of_folds_are_of_all_images_that_they_hold_out(
    file: FeatureFile, tmp_path: Path
) -> None:
    content = _run(tmp_path, file, {"logistic": {}})["logistic"]
    assert content["selected_by"] == "cross-validation"
    assert content["validation"]["images"] == len(file.rows("train", "validation"))
    assert content["validation"]["folds"] == 5
    held_out = Predictions.read(tmp_path / "models" / "logistic" / "held_out.h5")
    assert sorted(held_out.image) == sorted(file.image[file.rows("train", "validation")])


def test_a_trained_network_leaves_its_history(file: FeatureFile, tmp_path: Path) -> None:
    content = _run(tmp_path, file, {"gap": {"epochs": 3, "learning_rate": 0.05}})["gap"]
    history = _columns(tmp_path / "plots" / "gap" / "history.csv")
    assert history["epoch"] == [1, 2, 3]
    best = int(np.argmin(history["validation_loss"]))
    assert content["setting"] == {"epochs": best + 1}
    assert 0 < content["validation"]["accuracy"] <= max(history["validation_accuracy"])


def test_two_fits_give_the_same_bytes(file: FeatureFile, tmp_path: Path, fitted: list[str]) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for root in (one, two):
        _run(root, file, {"logistic": {}, "gap": {"epochs": 2}})
    assert fitted == ["logistic", "gap"] * 2
    assert _bytes(one / "models", one / "plots") == _bytes(two / "models", two / "plots")
    assert (one / "heads.json").read_bytes() == (two / "heads.json").read_bytes()


def test_few_shots_are_repeated_and_their_spread_told(file: FeatureFile, tmp_path: Path) -> None:
    content = _run(tmp_path, file, {"logistic": {}}, shots=3, repeats=4)["logistic"]
    assert content["train"]["images"] == 9
    told = content["repeats"]
    assert told["count"] == 4
    assert 0.33 < told["accuracy_mean"] < 1
    # Other images each time: the head itself draws nothing.
    assert told["accuracy_std"] > 0
    assert heads.load(tmp_path / "models" / "logistic").card.training["shots"] == 3
    further = repeat_folders(tmp_path / "models" / "logistic")
    assert len(further) == 3
    assert {heads.load(folder).card.training["seed"] for folder in further} == {1, 2, 3}
    assert heads.trained_heads(tmp_path / "models") == ["logistic"]


@pytest.mark.parametrize("head", ["logistic", "gap", "knn", "ridge"])
@pytest.mark.parametrize("shots", [1, 4])
def test_of_few_shots_validation_images_teach_and_choose_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], head: str, shots: int
) -> None:
    options = {head: {"epochs": 20, "learning_rate": 0.05} if head == "gap" else {}}
    file = write_project(tmp_path / "apart", *blobs(60, 3, 8, gap=6))
    content = _run(tmp_path / "one", file, options, shots=shots, refit=True)[head]
    assert content["selected_by"] == ("cross-validation" if shots > 1 else "default")
    # They judge alone, so that other ones change the scores and nothing of the model.
    mixed = write_project(tmp_path / "mixed", *_with_other_validation(file), views=0)
    other = _run(tmp_path / "other", mixed, options, shots=shots, refit=True)[head]
    assert content["validation"]["images"] == len(file.rows("validation"))
    assert content["setting"] == other["setting"]
    assert content["validation"]["accuracy"] > other["validation"]["accuracy"] + 0.2
    weights = [
        (tmp_path / one / "models" / head / "weights.h5").read_bytes() for one in ("one", "other")
    ]
    assert weights[0] == weights[1]
    assert not heads.load(tmp_path / "one" / "models" / head).card.refit
    told = f"of train.shots: {shots} no image per class can be held out to choose on: {head} took"
    assert (told in capsys.readouterr().err) == (shots == 1)


def _with_other_validation(file: FeatureFile) -> tuple[np.ndarray, np.ndarray]:
    """The images of the file, with features of other classes where they are for validation."""
    features = np.array(file.features)
    rows = file.rows("validation")
    features[rows] = -features[rows]
    return features, np.array(file.label)


def test_a_head_adjusted_to_rare_classes_finds_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.where(np.arange(400) < 360, 0, 1)
    features = (0.7 * labels[:, None] + rng.standard_normal((400, 6))).astype(np.float32)
    order = rng.permutation(400)
    file = write_project(tmp_path, features[order], labels[order])
    kinds = {"logistic": {}, "gap": {"epochs": 30, "learning_rate": 0.02}, "ridge": {}}
    plain = _run(tmp_path / "plain", file, kinds)
    adjusted = _run(tmp_path / "adjusted", file, kinds, class_weight="logit_adjusted")
    for name in kinds:
        before, after = (one[name]["validation"] for one in (plain, adjusted))
        assert after["per_class"][1]["recall"] > before["per_class"][1]["recall"] + 0.2, name
        assert after["balanced_accuracy"] > before["balanced_accuracy"] - 0.02, name


def test_a_setting_is_chosen_by_what_classes_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    labels = np.where(np.arange(300) < 270, 0, 1)
    features = (0.6 * labels[:, None] + rng.standard_normal((300, 10))).astype(np.float32)
    order = rng.permutation(300)
    file = write_project(tmp_path, features[order], labels[order])
    _run(tmp_path, file, {"knn": {}}, class_weight={"class 1": 9.0})
    curve = heads.load(tmp_path / "models" / "knn").card.curve
    chosen = heads.load(tmp_path / "models" / "knn").card.setting
    _run(tmp_path, file, {"knn": {}})
    plain = heads.load(tmp_path / "models" / "knn").card.curve
    # Everything called common would be right of nine in ten, or of one in two as classes count.
    assert all(one["accuracy"] < 0.9 for one in curve)
    assert max(one["accuracy"] for one in plain) >= 0.9
    assert chosen["neighbors"] > 1


def test_class_weight_and_refit_reach_the_head(file: FeatureFile, tmp_path: Path) -> None:
    plain = _run(tmp_path, file, {"svc": SVC})
    weighted = _run(tmp_path, file, {"svc": SVC}, class_weight={"class 0": 50.0})
    recall = [content["svc"]["train"]["per_class"][0]["recall"] for content in (plain, weighted)]
    assert recall[1] > recall[0]
    _run(tmp_path, file, {"svc": SVC}, refit=True)
    assert heads.load(tmp_path / "models" / "svc").card.refit


def test_adamw_is_adam_with_weight_decay(file: FeatureFile, tmp_path: Path) -> None:
    chosen = {
        name: {"kind": "gap", "epochs": 2, "optimizer": optimizer, "weight_decay": decay}
        for name, optimizer, decay in (
            ("plain", "adam", 0.0),
            ("decayed", "adam", 0.5),
            ("adamw", "adamw", 0.5),
        )
    }
    _run(tmp_path, file, chosen)
    plain, decayed, adamw = (
        (tmp_path / "models" / name / "weights.h5").read_bytes() for name in chosen
    )
    assert adamw == decayed
    assert adamw != plain


@pytest.mark.parametrize("chosen", [{"ridge": {}}, {"gap": {"epochs": 1}}])
def test_the_largest_seed_serves_a_learning_curve_and_repeats(
    tmp_path: Path, chosen: dict[str, dict[str, Any]]
) -> None:
    """Seeds are counted up from it, and there is none above."""
    features, _ = blobs(4, 2)
    labels, split = np.repeat([0, 1], 4), np.tile(["train", "train", "validation", "test"], 2)
    file = write_project(tmp_path, features, labels, split=split)
    content = _run(
        tmp_path, file, chosen, seed=2**32 - 1, learning_curve="all", repeats=2,
        min_validation=1, folds_below=0,
    )  # fmt: skip
    (name,) = chosen
    curve = _columns(tmp_path / "plots" / name / "learning_curve.csv")
    assert curve["images_per_class"] == [1, 2]
    assert content[name]["repeats"]["count"] == 2


def test_cheap_learning_curves_leave_networks_out(file: FeatureFile, tmp_path: Path) -> None:
    _run(tmp_path, file, {"ridge": {}, "gap": {"epochs": 1}}, learning_curve="cheap")
    assert (tmp_path / "plots" / "ridge" / "learning_curve.csv").is_file()
    assert not (tmp_path / "plots" / "gap" / "learning_curve.csv").exists()


def test_the_edit_of_one_head_fits_that_head_alone(
    file: FeatureFile, tmp_path: Path, fitted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = _run(tmp_path, file, {"ridge": {}, "svc": SVC})
    folders = [tmp_path / kind / "ridge" for kind in ("models", "plots")]
    bytes_before = _bytes(*folders)
    capsys.readouterr()
    after = _run(tmp_path, file, {"ridge": {}, "svc": {**SVC, "c": 1e-2}})
    assert fitted == ["ridge", "linear_svc", "linear_svc"]
    assert _bytes(*folders) == bytes_before
    assert after["ridge"] == before["ridge"]
    assert after["svc"]["setting"] == {"c": 1e-2}
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "ridge: taken over, nothing that decides it has changed"
    assert told[1].startswith("svc: fitted in ")


def test_a_head_under_another_name_and_in_another_order_is_taken_over(
    file: FeatureFile, tmp_path: Path, fitted: list[str]
) -> None:
    before = _run(tmp_path, file, {"ridge": {}, "svc": SVC})
    after = _run(tmp_path, file, {"mine": SVC, "ridge": {}})
    assert fitted == ["ridge", "linear_svc"]
    assert list(after) == ["mine", "ridge"]
    assert after["mine"] == before["svc"]


def test_a_head_that_was_removed_leaves_nothing_behind(file: FeatureFile, tmp_path: Path) -> None:
    _run(tmp_path, file, {"ridge": {}, "svc": SVC})
    content = _run(tmp_path, file, {"ridge": {}})
    assert list(content) == ["ridge"]
    for kind in ("models", "plots"):
        assert [path.name for path in (tmp_path / kind).iterdir()] == ["ridge"]


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"class_weight": "balanced"}, {"refit": False}, {"folds_below": 0}, {"shots": 5}],
)
def test_what_decides_every_head_fits_every_head(
    file: FeatureFile, tmp_path: Path, fitted: list[str], changes: dict[str, Any]
) -> None:
    chosen = {"ridge": {}, "prototype": {}}
    _run(tmp_path, file, chosen)
    _run(tmp_path, file, chosen, **changes)
    assert fitted == ["ridge", "prototype"] * 2


def test_other_features_fit_every_head(tmp_path: Path, fitted: list[str]) -> None:
    for number in range(2):
        features, labels = blobs(20, 3, 8, seed=number)
        file = write_project(tmp_path / str(number), features, labels)
        _run(tmp_path, file, {"ridge": {}, "prototype": {}})
    assert fitted == ["ridge", "prototype"] * 2


def test_other_code_fits_every_head(
    file: FeatureFile, tmp_path: Path, fitted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(tmp_path, file, {"ridge": {}})
    monkeypatch.setattr(training, "digest_of_code", lambda packages: "other")
    _run(tmp_path, file, {"ridge": {}})
    assert fitted == ["ridge"] * 2


def test_a_damaged_fit_in_the_cache_is_made_again(
    file: FeatureFile, tmp_path: Path, fitted: list[str]
) -> None:
    _run(tmp_path, file, {"ridge": {}})
    before = _bytes(tmp_path / "models", tmp_path / "plots")
    (kept,) = (tmp_path / "cache" / "fits").iterdir()
    weights = kept / "model" / "weights.h5"
    weights.write_bytes(weights.read_bytes()[:-1])
    for _ in range(2):
        _run(tmp_path, file, {"ridge": {}})
    assert fitted == ["ridge"] * 2
    assert _bytes(tmp_path / "models", tmp_path / "plots") == before


def test_what_is_handed_over_may_be_changed_without_changing_what_is_kept(
    file: FeatureFile, tmp_path: Path, fitted: list[str]
) -> None:
    _run(tmp_path, file, {"ridge": {}})
    before = _bytes(tmp_path / "models")
    (tmp_path / "models" / "ridge" / "weights.h5").write_bytes(b"x")
    _run(tmp_path, file, {"ridge": {}})
    assert fitted == ["ridge"]
    assert _bytes(tmp_path / "models") == before


def _project(root: Path, heads: dict[str, Any]) -> None:
    """Write features and params.yaml as the stage finds them."""
    features, labels = blobs(40, 2, 8)
    write_project(root, features, labels)
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["train"]["heads"] = heads
    yaml.dump(params, root / "params.yaml")


def _start(root: Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HEADSTART_CACHE": str(root / "cache"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.train"], cwd=root, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _finish(root: Path) -> tuple[int, str]:
    process = _start(root)
    out, err = process.communicate()
    assert out == ""
    return process.returncode, err


def test_the_stage_trains_all_heads_of_params_yaml(tmp_path: Path) -> None:
    _project(tmp_path, {"linear_svc": {}, "near": {"kind": "knn"}})
    status, told = _finish(tmp_path)
    assert status == 0
    assert [line.partition(": ")[0] for line in told.splitlines()] == ["linear_svc", "near"]
    assert list(json.loads((tmp_path / "metrics/heads.json").read_text())) == ["linear_svc", "near"]
    for name in ("linear_svc", "near"):
        assert (tmp_path / "models/heads" / name / "head.json").is_file()
        assert (tmp_path / "plots/heads" / name / "path.csv").is_file()


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_with_the_head_that_it_was_fitting(tmp_path: Path) -> None:
    _project(tmp_path, {"ridge": {}, "gap": {"epochs": 100_000, "patience": 100_000}})
    process = _start(tmp_path)
    try:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("ridge: fitted in ")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (tmp_path / "metrics/heads.json").exists()
    _project(tmp_path, {"ridge": {}, "prototype": {}})
    status, told = _finish(tmp_path)
    assert status == 0
    assert told.startswith("ridge: taken over, nothing that decides it has changed\n")
    assert list(json.loads((tmp_path / "metrics/heads.json").read_text())) == [
        "ridge",
        "prototype",
    ]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("../mine", {"kind": "ridge"}, "train.heads.../mine: nothing can be called '../mine': the"),
        ("l; touch x #", {"kind": "ridge"}, "train.heads.l; touch x #: nothing can be called 'l; "),
        ("forest", {}, "train.heads.forest.kind: Input should be one of "),
    ],
)
def test_a_head_that_cannot_be_ends_in_one_message(
    tmp_path: Path, name: str, options: dict[str, str], message: str
) -> None:
    _project(tmp_path, {name: options})
    status, told = _finish(tmp_path)
    assert status == 1
    assert told.startswith(f"error: params.yaml: {message}")
    assert told.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "features", "params.yaml"]


def test_a_fit_that_fails_leaves_the_models_as_they_were(file: FeatureFile, tmp_path: Path) -> None:
    places = (tmp_path / "models", tmp_path / "plots")
    _run(tmp_path, file, {"ridge": {}, "knn": {}})
    before = _bytes(*places), (tmp_path / "heads.json").read_bytes()
    with pytest.raises(InputError, match="nobody"):
        _run(tmp_path, file, {"ridge": {}}, class_weight={"nobody": 2.0})
    assert (_bytes(*places), (tmp_path / "heads.json").read_bytes()) == before


def test_a_changed_feature_file_is_refused(file: FeatureFile, tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    path.write_bytes(file.path.read_bytes())
    with h5py.File(path, "r+") as content:
        content.attrs["feature_digest"] = "0" * 64
    with pytest.raises(InputError, match=r"f\.h5: .*: run `dvc repro extract`"):
        FeatureFile.open(path)


@pytest.mark.parametrize("refit", [False, True])
def test_what_cannot_be_judged_takes_default_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refit: bool
) -> None:
    features, labels = blobs(5, 3, 8)
    file = write_project(tmp_path, features, labels, split=np.full(15, "train"), group=labels)
    kinds = {"logistic": {}, "linear_svc": {}, "ridge": {"l2": 7.0}, "knn": {}, "prototype": {}}
    content = _run(tmp_path, file, {**kinds, "gap": {"epochs": 3}}, refit=refit, repeats=2)
    assert {name: one["setting"] for name, one in content.items()} == {
        "logistic": {"l2": 1.0},
        "linear_svc": {"c": 1.0},
        "ridge": {"l2": 7.0},
        "knn": {"neighbors": 1},
        "prototype": {},
        "gap": {"epochs": 3},
    }
    for name, one in content.items():
        assert (one["selected_by"], one["temperature"]) == ("default", 1.0)
        assert one["validation"]["images"] == 0
        assert one["repeats"] == {"count": 2}
        head = heads.load(tmp_path / "models" / name)
        assert head.card.selected_by == "default"
        assert np.isfinite(head.predict_proba(file.features)).all()
    assert _columns(tmp_path / "plots/gap/history.csv").keys() == {
        "epoch", "train_loss", "train_accuracy",
    }  # fmt: skip
    told = capsys.readouterr().err
    assert told.count("nothing can be held out to choose on") == 1
    assert "logistic, linear_svc, ridge, knn, prototype, gap took default settings" in told


def test_a_class_of_one_unit_is_named_and_never_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, labels = blobs(20, 3, 8)
    file = write_project(tmp_path, features, labels, group=np.where(labels == 1, 1, -1),
                         split=np.where(labels == 1, "train", spread_splits(60)))  # fmt: skip
    content = _run(tmp_path, file, {"logistic": {}, "dense": {"epochs": 2}})
    for one in content.values():
        assert one["selected_by"] == "cross-validation"
        assert one["validation"]["classes_without_images"] == ["class 1"]
        assert 0.01 < one["temperature"] < 100
    assert "no image of class 1 could be held out" in capsys.readouterr().err


def test_few_held_out_units_calibrate_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, labels = blobs(20, 3, 8)
    group = labels * 3 + np.arange(60) % 3
    file = write_project(tmp_path, features, labels, split=np.full(60, "train"), group=group)
    for _ in range(2):
        content = _run(tmp_path, file, {"logistic": {}})["logistic"]
        assert (content["temperature"], content["calibrated"]) == (1.0, False)
        # Also where the fit is taken over.
        told = capsys.readouterr().err
        assert told.count("the probabilities of logistic are not calibrated") == 1


def test_the_start_of_fine_tuning_is_no_other_heads_business(
    file: FeatureFile, tmp_path: Path
) -> None:
    starts = []
    for svc in (SVC, {**SVC, "c": 1e-2}):
        options = make_options({"ridge": {}, "svc": svc}, refit=True)
        training.write_start(file, options, "ridge", tmp_path / "start", Keep("fits", tmp_path))
        starts.append(_bytes(tmp_path / "start"))
    assert starts[0] == starts[1]
    assert heads.trained_heads(tmp_path / "start") == ["ridge"]
    start = heads.load(tmp_path / "start" / "ridge")
    assert start.kind == "ridge"
    # It has not seen the validation images, by which fine-tuning is judged.
    assert not start.card.refit
    _run(tmp_path / "alone", file, {"ridge": {}}, refit=False)
    alone = heads.load(tmp_path / "alone" / "models" / "ridge")
    np.testing.assert_array_equal(
        start.predict_logits(file.features), alone.predict_logits(file.features)
    )
    training.write_start(file, options, None, tmp_path / "start")
    assert heads.trained_heads(tmp_path / "start") == []
