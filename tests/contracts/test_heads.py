"""Every head keeps the same promises."""

import ast
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pydantic import TypeAdapter

from headstart import heads
from headstart.common.errors import InputError
from headstart.common.seal import read_sealed_json, write_sealed_json
from headstart.features.file import FeatureFile
from headstart.heads.base import FitReport, Head
from headstart.heads.data import TrainingData
from headstart.heads.linear_path import LinearHead
from headstart.heads.options import HEAD_KINDS, HeadOptions
from headstart.scoring.calibration import softmax
from tests.feature_files import blobs, class_means, make_header, write_project

ROOT = Path(__file__).parents[2]
EPOCH_KINDS = {"dense", "gap"}
PATH_KINDS = [kind for kind in HEAD_KINDS if kind not in EPOCH_KINDS]
SMALL: dict[str, dict[str, Any]] = {
    "dense": {"units": [8], "epochs": 6, "patience": 3, "learning_rate": 0.02, "dropout": 0.1},
    "gap": {"epochs": 20, "patience": 8, "learning_rate": 0.05},
}
MAP = (2, 3, 6)


def options_of(kind: str) -> HeadOptions:
    adapter: TypeAdapter[HeadOptions] = TypeAdapter(HeadOptions)
    return adapter.validate_python({"kind": kind, **SMALL.get(kind, {})})


def data_of(file: FeatureFile, **changes: Any) -> TrainingData:
    defaults = {"min_validation": 1, "folds_below": 0, "streaming_above": 10**9, "seed": 0}
    return TrainingData.from_file(file, **{**defaults, **changes})


@dataclass
class Fitted:
    head: Head
    report: FitReport
    data: TrainingData
    file: FeatureFile
    folder: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FeatureFile]:
    """Three classes of vectors with two views, and two classes of maps."""
    features, labels = blobs(30, 3, 8)
    texts = class_means(features, labels)
    vectors = write_project(
        tmp_path_factory.mktemp("vectors"), features, labels, views=2, texts=texts
    )
    channels, labels = blobs(30, 2, MAP[-1])
    noise = np.random.default_rng(1).standard_normal((60, *MAP)).astype(np.float32)
    features = channels[:, None, None] + noise
    maps = write_project(
        tmp_path_factory.mktemp("maps"), features, labels, texts=class_means(features, labels)
    )
    return {"vectors": vectors, "maps": maps}


@pytest.fixture(scope="module")
def fitted(
    files: dict[str, FeatureFile], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Fitted]:
    made: dict[tuple[str, str], Fitted] = {}

    def make(kind: str, content: str = "vectors") -> Fitted:
        if (kind, content) not in made:
            data = data_of(files[content])
            head = heads.create(options_of(kind), seed=0)
            report = head.fit(data)
            folder = tmp_path_factory.mktemp(kind)
            head.save(folder)
            made[kind, content] = Fitted(head, report, data, files[content], folder)
        return made[kind, content]

    return make


@pytest.mark.parametrize("content", ["vectors", "maps"])
@pytest.mark.parametrize("kind", HEAD_KINDS)
class TestEveryHead:
    def test_gives_probabilities_that_beat_chance(
        self, fitted: Callable[[str, str], Fitted], kind: str, content: str
    ) -> None:
        one = fitted(kind, content)
        rows = one.file.rows("test")
        probabilities = one.head.predict_proba(one.file.features, rows)
        n_classes = len(one.file.header.class_names)
        assert probabilities.shape == (len(rows), n_classes)
        assert probabilities.dtype == np.float64
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        accuracy = (probabilities.argmax(axis=1) == one.file.label[rows]).mean()
        assert accuracy > 1 / n_classes + 0.2

    def test_is_the_same_after_saving_and_loading(
        self, fitted: Callable[[str, str], Fitted], kind: str, content: str
    ) -> None:
        one = fitted(kind, content)
        loaded = heads.load(one.folder)
        assert loaded.card == one.head.card
        assert loaded.kind == kind
        np.testing.assert_array_equal(
            loaded.predict_proba(one.file.features), one.head.predict_proba(one.file.features)
        )

    def test_reports_held_out_logits(
        self, files: dict[str, FeatureFile], kind: str, content: str
    ) -> None:
        # With nothing to choose; else what reports an image is chosen by others.
        given = {"l2": 1.0, "c": 1e-2, "neighbors": 3, "epochs": 1}
        fields = options_of(kind).model_dump()
        adapter: TypeAdapter[HeadOptions] = TypeAdapter(HeadOptions)
        options = adapter.validate_python(
            fields | {name: given[name] for name in fields.keys() & given.keys()}
        )
        head = heads.create(options, seed=0)
        data = data_of(files[content])
        report = head.fit(data)
        np.testing.assert_array_equal(report.held_out, data.validation)
        logits = head.predict_logits(files[content].features, data.validation)
        np.testing.assert_allclose(report.logits, logits, rtol=1e-4, atol=1e-4)
        expected = softmax(logits, head.card.temperature)
        np.testing.assert_allclose(report.probabilities.sum(axis=1), 1)
        assert np.abs(report.probabilities - expected).mean() < 0.1


@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_a_second_fit_writes_the_same_bytes(
    fitted: Callable[[str, str], Fitted], tmp_path: Path, kind: str
) -> None:
    one = fitted(kind, "vectors")
    again = heads.create(options_of(kind), seed=0)
    again.fit(data_of(one.file))
    again.save(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(path.name for path in one.folder.iterdir())
    for name in names:
        assert (tmp_path / name).read_bytes() == (one.folder / name).read_bytes(), name


@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_a_folder_holds_hdf5_and_json_only(fitted: Callable[[str, str], Fitted], kind: str) -> None:
    folder = fitted(kind, "vectors").folder
    card, weights = sorted(folder.iterdir())
    content = json.loads(card.read_text())
    for key in ("class_names", "feature_digest", "setting", "curve", "temperature"):
        assert key in content
    assert h5py.is_hdf5(weights)
    assert b"pickle" not in weights.read_bytes()


@pytest.mark.parametrize("kind", [*sorted({*PATH_KINDS} - {"zero_shot"}), "gap"])
def test_refit_learns_from_validation_images_too(
    fitted: Callable[[str, str], Fitted], kind: str
) -> None:
    one = fitted(kind, "vectors")
    head = heads.create(options_of(kind), seed=0)
    report = head.fit(one.data, refit=True)
    assert head.card.refit
    assert head.card.setting == one.head.card.setting
    # What is reported is of weights that never saw the images.
    np.testing.assert_array_equal(report.logits, one.report.logits)
    assert head.card.temperature == one.head.card.temperature
    features = one.file.features
    assert not np.array_equal(head.predict_logits(features), one.head.predict_logits(features))


@pytest.mark.parametrize("kind", [*PATH_KINDS, "gap"])
def test_cross_validation_holds_every_image_out(files: dict[str, FeatureFile], kind: str) -> None:
    data = data_of(files["vectors"], min_validation=10**6)
    head = heads.create(options_of(kind), seed=0)
    report = head.fit(data)
    assert head.card.selected_by == "cross-validation"
    rows = data.everything
    assert sorted(report.held_out) == sorted(rows[data.view[rows] == 0])
    right = report.logits.argmax(axis=1) == data.label[report.held_out]
    assert right.mean() > 0.55


@pytest.mark.parametrize("kind", PATH_KINDS)
def test_features_too_large_for_memory_give_the_same_head(
    fitted: Callable[[str, str], Fitted], capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    one = fitted(kind, "vectors")
    head = heads.create(options_of(kind), seed=0)
    head.fit(data_of(one.file, streaming_above=1))
    # 54 training images and two views each, 8 columns of 4 bytes.
    assert f"{kind}: the training features are 5.18 kB, more than" in capsys.readouterr().err
    features = one.file.features
    np.testing.assert_allclose(
        head.predict_proba(features), one.head.predict_proba(features), atol=0.02
    )


@pytest.mark.parametrize("kind", PATH_KINDS)
def test_shuffled_labels_score_at_chance(tmp_path: Path, kind: str) -> None:
    """A selection that looked at test images, or at an image's own views, would beat chance."""
    features, labels = blobs(250, 4, 40, seed=3)
    shuffled = np.random.default_rng(0).permutation(labels)
    texts = class_means(features, labels)
    file = write_project(tmp_path, features, shuffled, views=1, texts=texts)
    head = heads.create(options_of(kind), seed=0)
    # Folds, so that views of an image could leak from one side to the other.
    report = head.fit(data_of(file, folds_below=10**6))
    rows = file.rows("test")
    tested = head.predict_proba(file.features, rows).argmax(axis=1) == file.label[rows]
    held_out = report.logits.argmax(axis=1) == file.label[report.held_out]
    # 200 test and 800 held-out images: 3.3 standard deviations about 1 / 4, and what choosing
    # the luckiest of the settings adds to the latter.
    assert abs(tested.mean() - 0.25) < 0.1
    assert abs(held_out.mean() - 0.25) < 0.07


@pytest.mark.parametrize("content", ["vectors", "maps"])
@pytest.mark.parametrize("kind", ["logistic", "linear_svc", "ridge"])
def test_linear_heads_are_a_matrix_on_raw_features(
    fitted: Callable[[str, str], Fitted], kind: str, content: str
) -> None:
    one = fitted(kind, content)
    assert isinstance(one.head, LinearHead)
    weights, bias = one.head.as_linear()
    features = np.asarray(one.file.features)
    pooled = features.mean(axis=(1, 2)) if features.ndim == 4 else features
    assert weights.shape == (pooled.shape[1], len(one.file.header.class_names))
    logits = pooled @ weights + bias
    np.testing.assert_allclose(logits, one.head.logits(features), atol=1e-5)
    np.testing.assert_array_equal(
        logits.argmax(axis=1), one.head.predict_proba(features).argmax(axis=1)
    )


@pytest.mark.parametrize("kind", ["logistic", "gap"])
def test_other_features_are_refused(fitted: Callable[[str, str], Fitted], kind: str) -> None:
    head = fitted(kind, "vectors").head
    names = head.card.class_names
    head.check_features(make_header(names, (8,)), "f.h5")
    # Which engine computed them, and in which precision, is within tolerance.
    head.check_features(make_header(names, (8,), engine="tensorflow"), "f.h5")
    with pytest.raises(
        InputError, match=r"f\.h5: not the features .* layer: expected c5, received conv2"
    ):
        head.check_features(make_header(names, (8,), layer="conv2"), "f.h5")
    with pytest.raises(InputError, match=r"feature_shape: expected \(8,\), received \(9,\)"):
        head.check_features(make_header(names, (9,)), "f.h5")
    with pytest.raises(InputError, match="class_names: expected .* received .*'other'"):
        head.check_features(make_header((*names[:2], "other"), (8,)), "f.h5")


def test_weights_of_another_head_are_refused(
    fitted: Callable[[str, str], Fitted], tmp_path: Path
) -> None:
    fitted("logistic", "vectors").head.save(tmp_path)
    weights = tmp_path / "weights.h5"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(
        InputError, match=r"weights\.h5: expected the file that .*another: run `dvc repro"
    ):
        heads.load(tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match=r"weights\.h5: expected the file that .* none: run"):
        heads.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "forest"}, "kind: expected one of dense, .* received 'forest'"),
        ({"format": 99}, "expected a head of format 4, received 99"),
        ({"temperature": 0}, "temperature: expected a positive number, received 0"),
    ],
)
def test_a_card_of_something_else_is_refused(
    fitted: Callable[[str, str], Fitted], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    fitted("ridge", "vectors").head.save(tmp_path)
    card = tmp_path / "head.json"
    write_sealed_json(card, {**read_sealed_json(card, ""), **change})
    with pytest.raises(InputError, match=message):
        heads.load(tmp_path)


def test_a_missing_or_broken_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"head\.json: no such file: run `dvc repro train`"):
        heads.load(tmp_path)
    (tmp_path / "head.json").write_text("{")
    with pytest.raises(InputError, match=r"head\.json: expected JSON that begins with .*sha256"):
        heads.load(tmp_path)


def test_training_that_diverged_is_told(files: dict[str, FeatureFile]) -> None:
    adapter: TypeAdapter[HeadOptions] = TypeAdapter(HeadOptions)
    options = adapter.validate_python({"kind": "gap", "epochs": 2, "learning_rate": 1e38})
    with pytest.raises(InputError, match="gap: logits: expected finite .* smaller learning rate"):
        heads.create(options, seed=0).fit(data_of(files["vectors"]))


def test_a_card_whose_classes_were_swapped_is_refused(
    fitted: Callable[[str, str], Fitted], tmp_path: Path
) -> None:
    fitted("ridge", "vectors").head.save(tmp_path)
    card = tmp_path / "head.json"
    text = card.read_text()
    swapped = text.replace("class 0", "@").replace("class 1", "class 0").replace("@", "class 1")
    card.write_text(swapped)
    with pytest.raises(InputError, match=r"head\.json: it was damaged or .*`dvc repro train`"):
        heads.load(tmp_path)


@pytest.mark.parametrize("kind", ["knn", "ridge"])
def test_training_that_diverged_is_not_saved(
    fitted: Callable[[str, str], Fitted], tmp_path: Path, kind: str
) -> None:
    one = fitted(kind, "vectors")
    head = heads.create(options_of(kind), seed=0)
    head.fit(one.data)
    head._card = replace(head.card, temperature=math.nan)
    with pytest.raises(InputError, match=f"{kind}: temperature: expected finite .*: training"):
        head.save(tmp_path / "head")
    assert not (tmp_path / "head").exists()


def test_a_head_that_is_not_fitted_has_no_card() -> None:
    with pytest.raises(ValueError, match="knn: fit or load the head first"):
        _ = heads.create(options_of("knn"), seed=0).card


def test_heads_import_neither_tensorflow_nor_scikit_learn() -> None:
    """Both take seconds to import; fitting takes less."""
    program = (
        "import sys, tempfile, pathlib\n"
        "from tests.contracts.test_heads import HEAD_KINDS, data_of, options_of\n"
        "from tests.feature_files import blobs, class_means, write_project\n"
        "from headstart import heads\n"
        "import pipeline.train, pipeline.novelty, pipeline.evaluate\n"
        "made, root = blobs(10), pathlib.Path(tempfile.mkdtemp())\n"
        "data = data_of(write_project(root, *made, texts=class_means(*made)))\n"
        "for kind in HEAD_KINDS:\n"
        "    heads.create(options_of(kind), seed=0).fit(data)\n"
        "print([m for m in ('tensorflow', 'keras', 'sklearn') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_no_head_module_imports_pickle_or_joblib() -> None:
    modules = list((ROOT / "headstart" / "heads").glob("*.py"))
    assert len(modules) > len(HEAD_KINDS)
    for path in modules:
        tree = ast.parse(path.read_text())
        imported = {
            name.name.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for name in node.names
        } | {
            str(node.module).split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
        }
        assert not imported & {"pickle", "joblib", "cloudpickle", "dill"}, path.name
