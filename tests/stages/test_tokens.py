"""A vision transformer with a preset's weights, from photos to report, prediction and export."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from headstart import catalog
from headstart.commands.cli import main
from headstart.dataset.manifest import read_manifest
from headstart.features.file import FeatureFile
from headstart.heads.finetuned_card import read_predictions
from pipeline import evaluate, extract, finetune, novelty, prepare, report, train
from tests.hub_presets import MEAN, STD, transformers_folder
from tests.hub_specs import spec_of

pytest.importorskip("keras_hub", reason="the extra hub is not installed")
pytest.importorskip("safetensors", reason="the extra hub is not installed")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NETWORK = "dinov2_registers"
TERMS = "Mind what these weights are for."


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[str]:
    """A tiny network among the catalog's: 7 x 7 patches, after a class token and four others."""
    published = catalog.get
    spec = replace(spec_of(NETWORK), license="Some License 1.0", terms=TERMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "get", lambda name: spec if name == spec.name else published(name))
        yield spec.name


def _params(photos: Path, backbone: str) -> dict:
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["prepare"]["source"] = str(photos)
    params["extract"] |= {
        **{"backbone": backbone, "weights": "weights", "pooling": "cls+avg"},
        **{"engine": "tensorflow"},
    }
    params["train"] |= {"heads": {"logistic": {}}, "min_validation": 1, "folds_below": 1}
    params["finetune"] |= {"unfreeze": "last_block", "epochs": 1}
    params["report"] |= {"heat_maps": 2, "projections": ["pca"]}
    return params


def _write(params: dict) -> None:
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(params, file)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path, tiny: str) -> Path:
    """A finished run; its weights state a preprocessing that the catalog does not have."""
    root = tmp_path_factory.mktemp("tokens")
    transformers_folder(NETWORK, root / "weights")
    with chdir(root):
        _write(_params(photo_folder, tiny))
        for stage in (prepare, extract, train, novelty, finetune, evaluate, report):
            stage.main()
    return root


@pytest.fixture
def here(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(finished)
    return finished


@pytest.fixture
def content() -> Callable[[], dict]:
    def read() -> dict:
        text = Path("report/index.html").read_text(encoding="utf-8")
        start = text.index('id="report">') + len('id="report">')
        return json.loads(text[start : text.index("</script>", start)])

    return read


@pytest.mark.usefixtures("here")
def test_heat_maps_are_of_the_patches(content: Callable[[], dict]) -> None:
    heat = content()["heat"]
    assert heat["with_class_token"]
    assert {np.shape(one["grid"]) for one in heat["maps"]} == {(7, 7)}
    assert "class tokens, which sum up the whole image" in Path("report/index.html").read_text()


def test_of_class_tokens_alone_there_are_none_and_the_page_says_why(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Callable[[], dict]
) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    params = YAML(typ="safe").load(Path("params.yaml").read_text())
    params["extract"]["pooling"] = "cls"
    params["finetune"]["unfreeze"] = "none"
    _write(params)
    for stage in (extract, train, novelty, finetune, evaluate, report):
        stage.main()
    assert content()["heat"] is None
    assert content()["no_heat"] == "class_token"
    assert "the features are the class token" in Path("report/index.html").read_text()


@pytest.mark.usefixtures("here")
def test_features_are_preprocessed_as_the_preset_says() -> None:
    header = FeatureFile.open(Path("features/bottleneck.h5")).header
    assert tuple(header.preprocessing["mean"]) == MEAN
    assert tuple(header.preprocessing["std"]) == STD
    assert json.loads(header.identity.own_preprocessing or "{}") == header.preprocessing


def test_a_fine_tuned_model_keeps_that_rule_when_the_preset_has_gone(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    shutil.rmtree("weights")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "store"))
    manifest = read_manifest(Path("data/manifest.csv"))
    known = read_predictions(Path("models/finetuned"), "test")
    assert known is not None
    paths = [manifest.rows[image].path for image in known.image]
    assert main(["predict", *paths, "--head", "finetuned", "--no-abstain", "--format", "json"]) == 0
    said = []
    for line in capsys.readouterr().out.splitlines():
        answer = {one["class"]: one["probability"] for one in json.loads(line)["classes"]}
        said.append([answer[name] for name in manifest.class_names])
    np.testing.assert_allclose(said, known.probabilities, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "form"), [("models/heads/logistic", "onnx"), ("models/finetuned", "openvino")]
)
def test_exports_hold_the_arithmetic_and_name_license_and_terms(
    here: Path, tmp_path: Path, model: str, form: str
) -> None:
    if form == "onnx":
        pytest.importorskip("tf2onnx", reason="the extra export is not installed")
    assert main(["export", "--format", form, "--model", model, "-o", str(tmp_path)]) == 0
    agreement = json.loads((tmp_path / "export.json").read_text())["agreement"]
    assert agreement["largest_difference"] <= 1e-4
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| License of its published weights | Some License 1.0; see the limits below |" in card
    assert f"- {TERMS}" in card


@pytest.mark.usefixtures("here")
def test_a_keras_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--format", "keras", "-o", "refused"]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1] == (
        "error: --format keras: a .keras file only names the layers that it is made of, and some "
        "of this backbone's are not Keras' own: whoever loads it would need KerasHub and this "
        "project. Use one of savedmodel, onnx, openvino, litert, which hold the arithmetic itself"
    )
    assert not Path("refused").exists()


@pytest.mark.usefixtures("here")
def test_terms_are_told_where_the_backbone_is_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    extract.main()
    assert capsys.readouterr().err.count(f"note: {TERMS}") == 1
