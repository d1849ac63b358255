"""The stage on faces: every strategy, equality of cached and live, resuming, what it refuses."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
from ruamel.yaml import YAML

from headstart.common.durations import kept_seconds
from headstart.common.errors import InputError
from headstart.common.params import check
from headstart.configuration.params import Params, check_params
from headstart.dataset.leak_table import write_leaks
from headstart.dataset.manifest import read_manifest
from headstart.dataset.prepared import prepare
from headstart.evaluation.evaluate import evaluate
from headstart.extraction.feature_rows import write_features
from headstart.extraction.store import FeatureStore
from headstart.features.file import COLUMN_TYPES, Columns, FeatureFile, write_feature_file
from headstart.finetuning.checkpoint import Checkpoint
from headstart.finetuning.options import FinetuneOptions
from headstart.finetuning.results import fine_tune
from headstart.heads import finetuned_card, load
from headstart.heads.training import train_heads
from headstart.samples import write_sample
from headstart.scoring.calibration import softmax
from headstart.scoring.predictions import Predictions

ROOT = Path(__file__).parents[2]


class Project(NamedTuple):
    """A project in which everything up to `train` has run."""

    root: Path
    params: Params

    @property
    def file(self) -> FeatureFile:
        return FeatureFile.open(self.root / "bottleneck.h5")

    def finetune(self, folder: Path, head: str = "logistic", **changes: Any) -> dict[str, Any]:
        """Fine-tune into a folder; return the metrics."""
        defaults = {"head": head, "unfreeze": "last_block", "epochs": 2, "learning_rate": 1e-3}
        options = {**self.params.finetune.model_dump(), **defaults, **changes}
        fine_tune(
            self.file,
            read_manifest(self.root / "manifest.csv"),
            check(options, FinetuneOptions, "params.yaml", "finetune"),
            heads=self.root / "models",
            model=folder / "finetuned",
            metrics=folder / "finetune.json",
            plots=folder / "plots",
        )
        return dict(json.loads((folder / "finetune.json").read_text()))


def make_project(
    root: Path,
    extracting: dict[str, Any],
    heads: dict[str, Any],
    data: Literal["faces", "digits"] = "faces",
    preparing: dict[str, Any] | None = None,
    **training: Any,
) -> Project:
    """Run the stages up to train on a sample data set."""
    write_sample(data, root / "photos")
    content = {
        "prepare": {"source": str(root / "photos"), **(preparing or {})},
        "extract": {"precision": "float32", "engine": "auto", "layer": "auto", **extracting},
        "train": {"heads": heads, "folds_below": 0, "refit": False, **training},
    }
    params = check_params(_changed(ROOT / "params.yaml", content), root / "params.yaml")
    prepare(
        params.prepare,
        manifest=root / "manifest.csv",
        quarantine=root / "quarantine.csv",
        leaks=root / "leaks.csv",
        corrections=root / "corrections.csv",
        metrics=root / "data.json",
    )
    write_features(
        read_manifest(root / "manifest.csv"),
        params.extract,
        features=root / "bottleneck.h5",
        views=root / "views.png",
        metrics=root / "extract.json",
    )
    train_heads(
        FeatureFile.open(root / "bottleneck.h5"),
        params.train,
        models=root / "models",
        metrics=root / "heads.json",
        plots=root / "plots",
    )
    return Project(root, params)


def _changed(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    params: dict[str, Any] = YAML(typ="safe").load(path)
    for section, values in content.items():
        params[section] = {**params[section], **values}
    return params


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """EfficientNetLite0 with its ImageNet weights."""
    extracting = {"backbone": "EfficientNetLite0", "weights": "pretrained", "image_size": 64}
    heads = {"gap": {"epochs": 1}, "prototype": {}}
    return make_project(tmp_path_factory.mktemp("lite"), extracting, heads)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """LeNet5 with random weights, one augmented view per training image."""
    extracting = {
        "backbone": "LeNet5",
        "weights": "random",
        "image_size": 32,
        "augment": {"views": 1, "seed": 0, "horizontal_flip": 0.5, "rotation": 10.0},
    }
    heads = {
        "logistic": {},
        "linear_svc": {},
        "ridge": {},
        "gap": {"epochs": 2},
        "dense": {"units": [16], "epochs": 3, "batch_normalization": True},
    }
    return make_project(tmp_path_factory.mktemp("lenet"), extracting, heads)


def weights_of(folder: Path) -> bytes:
    return (folder / "finetuned" / finetuned_card.WEIGHTS_FILE).read_bytes()


def test_nothing_unfrozen_leaves_no_model_whatever_heads_there_are_and_imports_no_tensorflow(
    tmp_path: Path, small: Project
) -> None:
    links = {"manifest.csv": "data", "manifest.csv.sha256": "data", "bottleneck.h5": "features"}
    for name, place in links.items():
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / name).symlink_to(small.root / name)
    content = {"finetune": {"unfreeze": "none", "head": "one that is gone"}}
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(_changed(ROOT / "params.yaml", content), file)
    # A model of an earlier run, in a project that runs its stages without DVC.
    small.finetune(tmp_path / "models", epochs=1)
    code = (
        "import sys; from pipeline import finetune; finetune.main(); "
        "assert 'tensorflow' not in sys.modules; assert 'sklearn' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert json.loads((tmp_path / "metrics/finetune.json").read_text()) == {"unfreeze": "none"}
    (left,) = (tmp_path / "models/finetuned").iterdir()
    assert json.loads(left.read_text()) == {"unfreeze": "none"}
    assert not finetuned_card.is_present(tmp_path / "models/finetuned")
    assert [path.name for path in (tmp_path / "plots/finetuned").iterdir()] == ["skipped.json"]


def test_a_head_that_is_not_trained_is_told(small: Project, tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"params.yaml: finetune.head: expected one of train.heads \(dense, gap, linear_svc, "
        r"logistic, ridge\), received knn",
    ):
        small.finetune(tmp_path, head="knn")
    with pytest.raises(InputError, match=r"finetune.head: .* received \.\./models/ridge"):
        small.finetune(tmp_path, head="../models/ridge")


@pytest.mark.parametrize(
    ("unfreeze", "cut", "trunk"),
    [
        ("c5", "c5", "cached"),  # the head alone
        ("last_block", "s4", "cached"),
        (0.2, "s4", "cached"),
        ("s2", "s2", "cached"),
        ("all", None, "live"),
        ("scratch", None, "live"),
    ],
)
def test_every_strategy(
    small: Project, tmp_path: Path, unfreeze: str | float, cut: str | None, trunk: str
) -> None:
    metrics = small.finetune(tmp_path, unfreeze=unfreeze)
    assert (metrics["cut"], metrics["trunk"], metrics["epochs"]) == (cut, trunk, 2)
    assert metrics["train"]["images"] == 120
    assert metrics["validation"]["images"] == 40
    if unfreeze == "scratch":
        assert metrics["parity"] is None
    else:
        assert max(metrics["parity"].values()) < 1e-4
    history = (tmp_path / "plots/history.csv").read_text().splitlines()
    assert history[0] == "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy"
    assert len(history) == 3


@pytest.mark.slow
def test_last_block_of_a_pretrained_backbone(pretrained: Project, tmp_path: Path) -> None:
    metrics = pretrained.finetune(tmp_path, head="gap", learning_rate=1e-4)
    assert metrics["cut"] == "block6d_add"
    assert metrics["parity"]["features"] < 1e-5
    assert metrics["validation"]["accuracy"] >= 0.9


@pytest.mark.parametrize("head", ["logistic", "linear_svc", "ridge", "gap", "dense"])
def test_a_head_carries_over_exactly(small: Project, tmp_path: Path, head: str) -> None:
    """A step too small to change a float32 leaves what the head itself says."""
    small.finetune(tmp_path, head=head, epochs=1, learning_rate=1e-30)
    cached, file = load(small.root / "models" / head), small.file
    rows = file.rows("test")
    expected = cached.predict_proba(file.features, rows)
    found = Predictions.read(tmp_path / "finetuned" / finetuned_card.TEST_FILE)
    assert found.image.tolist() == file.image[rows].tolist()
    logits = np.log(found.probabilities)
    # One temperature for all is all that may differ.
    scale = (logits[:, 0] - logits[:, 1]) / (np.log(expected[:, 0]) - np.log(expected[:, 1]))
    assert scale == pytest.approx(np.median(scale), rel=1e-2)
    assert np.array_equal(found.probabilities.argmax(axis=1), expected.argmax(axis=1))


def test_cached_and_live_give_the_same_weights(pretrained: Project, tmp_path: Path) -> None:
    """The trunk by OpenVINO once, or by Keras in every epoch, from image files."""
    from headstart.finetuning.saving import load_finetuned

    learned = []
    for trunk in ("cached", "live"):
        metrics = pretrained.finetune(
            tmp_path / trunk, "gap", trunk=trunk, unfreeze="block7a_project_bn", learning_rate=1e-4
        )
        assert metrics["trunk"] == trunk
        assert metrics["best_epoch"] > 0
        learned.append(load_finetuned(tmp_path / trunk / "finetuned").assembly)
    pairs = zip(*(one.logits_from(None).get_weights() for one in learned), strict=True)
    assert max(float(np.abs(one - other).max()) for one, other in pairs) < 1e-4


def test_the_cache_is_not_larger_than_allowed(
    small: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = small.finetune(tmp_path, max_cache=100_000.0, epochs=1)
    assert metrics["trunk"] == "live"
    # 320 rows (120 images with a view each, 40 + 40) of 5 x 5 x 16 floats, in store and file.
    assert "would take 1.02 MB of disk, more than finetune.max_cache (100 kB)" in (
        capsys.readouterr().err
    )
    small.finetune(tmp_path, max_cache=2e6, epochs=1)
    assert "1.02 MB of disk" in capsys.readouterr().out


def test_the_same_run_writes_the_same_bytes(small: Project, tmp_path: Path) -> None:
    runs = []
    for name in ("one", "two"):
        small.finetune(tmp_path / name, head="dense")
        paths = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        runs.append({path.name: path.read_bytes() for path in paths})
    assert set(runs[0]) == {
        "finetuned.weights.h5",
        "head.json",
        "held_out.h5",
        "test.h5",
        "finetune.json",
        "history.csv",
    }
    assert runs[0] == runs[1]
    assert not any((FeatureStore().root / "finetune").iterdir())


def test_staged_unfreezing(small: Project, tmp_path: Path) -> None:
    stages = [{"unfreeze": "c5", "epochs": 1}, {"unfreeze": "last_block", "epochs": 1}]
    metrics = small.finetune(tmp_path, stages=stages, unfreeze="s2", epochs=1)
    assert (metrics["epochs"], metrics["cut"]) == (3, "s2")
    with pytest.raises(InputError, match=r"finetune.stages: expected every step to unfreeze as"):
        small.finetune(tmp_path, stages=[{"unfreeze": "s2", "epochs": 1}], unfreeze="c5")


def test_without_validation_all_epochs_are_trained_and_that_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(
        tmp_path,
        {"backbone": "LeNet5", "weights": "random", "image_size": 32},
        {"ridge": {}},
        preparing={"validation": 0, "test": 0},
    )
    content = project.finetune(
        tmp_path / "run", head="ridge", unfreeze="last_block", epochs=3, patience=1
    )
    assert (content["epochs"], content["best_epoch"], content["temperature"]) == (3, 3, 1.0)
    assert "validation" not in content
    told = capsys.readouterr().err
    assert "every epoch is trained and the last one's weights are kept" in told
    card = finetuned_card.read_finetuned_card(tmp_path / "run" / "finetuned")
    assert card.head.selected_by == "default"


def test_loaded_again_it_says_the_same(small: Project, tmp_path: Path) -> None:
    from headstart.finetuning.live import LiveImages
    from headstart.finetuning.saving import load_finetuned

    small.finetune(tmp_path)
    finetuned = load_finetuned(tmp_path / "finetuned")
    file = small.file
    rows = file.rows("test")
    (images,) = LiveImages(file, read_manifest(small.root / "manifest.csv")).read(rows, 0, 999)
    model = finetuned.assembly.logits_from(None, images=True)
    logits = np.asarray(model(images, training=False))
    found = softmax(logits, finetuned.card.head.temperature)
    assert finetuned.card.start.name == "logistic"
    expected = Predictions.read(tmp_path / "finetuned" / finetuned_card.TEST_FILE).probabilities
    assert found == pytest.approx(expected, abs=1e-5)


def _evaluate(project: Project, folder: Path, heads: Path) -> dict[str, Any]:
    """Evaluate the heads and the fine-tuned model in a folder."""
    write_leaks(folder / "leaks.csv", [])
    evaluate(
        project.file,
        read_manifest(project.root / "manifest.csv"),
        project.params.evaluate,
        heads=heads,
        trained=project.root / "heads.json",
        finetuned=folder / "finetuned",
        known_leaks=folder / "leaks.csv",
        fits=project.root / "plots",
        finetuned_fit=folder / "plots",
        metrics=folder / "test.json",
        summary=folder / "summary.json",
        plots=folder / "test",
        curves=folder / "curves",
        predictions=folder / "predictions",
        leaks=folder / "feature_leaks.csv",
        weak_clusters=folder / "weak_clusters.csv",
        operating=folder / "operating.json",
    )
    return dict(json.loads((folder / "test.json").read_text()))


def test_evaluate_lists_it_with_its_gain(small: Project, tmp_path: Path) -> None:
    small.finetune(tmp_path, unfreeze="scratch", epochs=4, learning_rate=1e-2)
    heads = tmp_path / "heads"
    heads.mkdir()
    # A head may have any name, also that of the folder of the fine-tuned model.
    for name, kind in (("logistic", "logistic"), ("finetuned", "ridge")):
        (heads / name).symlink_to(small.root / "models" / kind)
    scores = _evaluate(small, tmp_path, heads)
    assert set(scores) == {"selected", "heads", "finetuned", "leaks"}
    assert set(scores["heads"]) == {"logistic", "finetuned"}
    gain = scores["finetuned"]["gain"]
    assert gain["over"] == "logistic"
    difference = scores["finetuned"]["accuracy"] - scores["heads"]["logistic"]["accuracy"]
    assert gain["accuracy"] == pytest.approx(difference)
    assert gain["interval"][0] <= gain["accuracy"] <= gain["interval"][1]
    assert scores["selected"]["head"] in {"logistic", "finetuned", finetuned_card.NAME}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary) == {"selected", "heads", "finetuned"}
    assert summary["finetuned"]["accuracy"] == scores["finetuned"]["accuracy"]
    fit = json.loads((tmp_path / "finetune.json").read_text())
    assert summary["finetuned"]["validation_accuracy"] == fit["validation"]["accuracy"]
    # From scratch everything learns, as the backbone and its head count their values.
    assert fit["trained_parameters"] == fit["parameters"]
    assert kept_seconds(tmp_path / "finetuned" / "head.json") > 0
    for path in ("finetuned.h5", "heads/finetuned.h5", "heads/logistic.h5"):
        assert (tmp_path / "predictions" / path).is_file()
    for table in ("curves/epochs.csv", "test/roc.csv"):
        with (tmp_path / table).open(newline="") as file:
            assert finetuned_card.NAME in {row["head"] for row in csv.DictReader(file)}

    (heads / "logistic").unlink()
    with pytest.raises(InputError, match=r"one of the heads finetuned, received .* logistic: run"):
        _evaluate(small, tmp_path, heads)


def test_images_and_weights_are_those_that_the_head_learned_from(tmp_path: Path) -> None:
    extracting = {"backbone": "LeNet5", "weights": "random", "image_size": 32}
    project = make_project(
        tmp_path / "few", extracting, {"ridge": {}}, shots=5, class_weight={"face": 2.0}
    )
    training = load(project.root / "models/ridge").card.training
    assert (training["shots"], training["class_weight"]) == (5, {"face": 2.0})
    metrics = project.finetune(tmp_path, head="ridge", epochs=1)
    assert metrics["train"]["images"] == 10
    assert finetuned_card.read_finetuned_card(tmp_path / "finetuned").head.training == training


def test_adamw_is_adam_with_weight_decay(small: Project, tmp_path: Path) -> None:
    learned = {}
    for optimizer, decay in (("adam", 0.0), ("adam", 0.5), ("adamw", 0.5)):
        folder = tmp_path / f"{optimizer}-{decay}"
        small.finetune(
            folder, unfreeze="c5", optimizer=optimizer, weight_decay=decay, learning_rate=1e-2
        )
        learned[optimizer, decay] = weights_of(folder)
    assert learned["adamw", 0.5] == learned["adam", 0.5] != learned["adam", 0.0]
    with pytest.raises(
        InputError, match=r"params.yaml: finetune: adamw is adam with weight decay: expected"
    ):
        small.finetune(tmp_path, optimizer="adamw")


def test_a_worker_of_ray_computes_the_logits_of_this_model_only(
    small: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.extraction.extract import extract
    from headstart.extraction.on_ray.worker import Answer, Order, Worker, code_digest
    from headstart.extraction.requests import request_for
    from headstart.inference import finetuned

    # The worker would limit this process.
    for name in ("LOKY_MAX_CPU_COUNT", "TF_NUM_INTRAOP_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.chdir(tmp_path)
    small.finetune(tmp_path)
    folder = tmp_path / "finetuned"
    network = finetuned.as_bottleneck(folder, finetuned_card.read_finetuned_card(folder))
    order = Order(
        code=code_digest(),
        taps=[network.taps[0].as_dict()],
        recipe=None,
        cache=str(FeatureStore().root),
        project=str(tmp_path),
        lenient=False,
    )
    request = request_for(next((small.root / "photos").rglob("*.png")))
    worker = Worker(order.model_dump_json(), finetuned.recover)
    assert worker.start() == Answer("done")
    assert worker.compute([(request.path, request.sha256, 0)]) == Answer("done")
    found = extract(network, [request], load=finetuned.load_engine)
    assert found.counts.computed == 0

    small.finetune(tmp_path, epochs=1)
    answer = Worker(order.model_dump_json(), finetuned.recover).start()
    assert answer.kind == "refused"
    assert "expected the fine-tuned weights that were asked for" in answer.text


@pytest.fixture
def killed(small: Project, tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Start the stage in a process of its own and kill it in the middle of an epoch."""

    def start(changes: dict[str, Any]) -> Path:
        code = (
            "import sys, json; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
            "from tests.stages.test_finetune import Project, check_params, _changed, ROOT\n"
            "root = Path(sys.argv[2]); content, changes = json.loads(sys.argv[3])\n"
            "project = Project(root, check_params(content, root))\n"
            "project.finetune(Path(sys.argv[4]), **changes)\n"
        )
        content = [small.params.model_dump(mode="json"), changes]
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                code,
                ROOT,
                small.root,
                json.dumps(content),
                tmp_path / "killed",
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            runs = FeatureStore().root / "finetune"
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and process.poll() is None:
                states = [Checkpoint(run).load() for run in runs.glob("*")]
                if any(state is not None and state.epoch >= 2 for state in states):
                    break
                time.sleep(0.01)
            assert process.poll() is None, "it ended before it could be killed"
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        (run,) = runs.iterdir()
        return run

    return start


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(
    small: Project, tmp_path: Path, killed: Callable[[dict[str, Any]], Path]
) -> None:
    # With dropout, so that the random generator's state counts; live, so that an epoch takes time.
    changes = {"head": "dense", "unfreeze": "s2", "trunk": "live", "epochs": 12, "patience": 12}
    run = killed(changes)
    state = Checkpoint(run).load()
    assert state is not None
    assert 2 <= state.epoch < 12
    assert not (tmp_path / "killed" / "finetuned").exists()
    resumed = small.finetune(tmp_path / "killed", **changes)
    undisturbed = small.finetune(tmp_path / "undisturbed", **changes)
    assert resumed == undisturbed
    assert undisturbed["best_epoch"] > state.epoch
    assert weights_of(tmp_path / "killed") == weights_of(tmp_path / "undisturbed")
    assert not run.exists()


def test_a_head_that_is_no_layer_is_refused(pretrained: Project, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a prototype head has no equivalent layer to fine-tune"):
        pretrained.finetune(tmp_path, head="prototype")


def test_a_cut_that_does_not_exist_is_refused(small: Project, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="finetune.unfreeze: there is no layer 's9'"):
        small.finetune(tmp_path, unfreeze="s9")


def test_weights_that_changed_since_and_a_head_of_other_features_are_refused(
    small: Project, tmp_path: Path
) -> None:
    from headstart import catalog
    from headstart.catalog.building import build_architecture

    file = tmp_path / "lenet.weights.h5"
    network = build_architecture(catalog.get("LeNet5"), (32, 32), seed=1)
    network.save_weights(file)
    extracting = {"backbone": "LeNet5", "weights": str(file), "image_size": 32}
    project = make_project(tmp_path / "project", extracting, {"ridge": {}})
    build_architecture(catalog.get("LeNet5"), (32, 32), seed=2).save_weights(file)
    with pytest.raises(InputError, match="expected those that the model was trained with"):
        project.finetune(tmp_path, head="ridge")
    (tmp_path / "mixed").mkdir()
    for name, root in (("models", small.root), ("bottleneck.h5", project.root)):
        (tmp_path / "mixed" / name).symlink_to(root / name)
    for name in ("manifest.csv", "manifest.csv.sha256"):
        (tmp_path / "mixed" / name).symlink_to(project.root / name)
    with pytest.raises(InputError, match="not the features that this ridge head was trained on"):
        project._replace(root=tmp_path / "mixed").finetune(tmp_path, head="ridge")


def test_a_model_that_says_something_else_is_stopped(small: Project, tmp_path: Path) -> None:
    """The parity gate: features that the backbone would not give."""
    damaged = tmp_path / "root"
    damaged.mkdir()
    for path in small.root.iterdir():
        if path.name != "bottleneck.h5":
            (damaged / path.name).symlink_to(path)
    file = FeatureFile.open(small.root / "bottleneck.h5")
    columns = Columns(**{name: getattr(file, name) for name in COLUMN_TYPES})
    write_feature_file(damaged / "bottleneck.h5", file.header, columns, file.features * 1.01)
    with pytest.raises(InputError, match="the backbone's features differ from those in"):
        small._replace(root=damaged).finetune(tmp_path)


def test_a_changed_image_is_told(small: Project, tmp_path: Path) -> None:
    manifest = read_manifest(small.root / "manifest.csv")
    path = Path(manifest.rows[0].path)
    data = path.read_bytes()
    try:
        path.write_bytes(data + b"more")
        with pytest.raises(InputError, match=f"{path.name}: the file has changed: .*dvc repro"):
            small.finetune(tmp_path, unfreeze="all")
    finally:
        path.write_bytes(data)


@pytest.mark.slow
def test_lenet_from_scratch_reads_digits(tmp_path: Path) -> None:
    extracting = {"backbone": "LeNet5", "weights": "random", "image_size": 32}
    digits = make_project(tmp_path, extracting, {"ridge": {}}, "digits")
    metrics = digits.finetune(
        tmp_path, head="ridge", unfreeze="scratch", epochs=20, learning_rate=3e-3
    )
    test = Predictions.read(tmp_path / "finetuned" / finetuned_card.TEST_FILE)
    labels = read_manifest(tmp_path / "manifest.csv").labels[test.image]
    assert float((test.probabilities.argmax(axis=1) == labels).mean()) >= 0.95
    assert metrics["validation"]["accuracy"] >= 0.95
