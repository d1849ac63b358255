"""A backbone paired with text through the stages: class names become heads, saved and exported."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from headstart import catalog
from headstart.catalog.hub import text_tower
from headstart.catalog.spec import HubNetwork
from headstart.commands.cli import main
from headstart.commands.export.formats import FORMATS
from headstart.commands.export.writers import writer_of
from headstart.common.errors import InputError
from headstart.common.files import read_json
from headstart.dataset.manifest import read_manifest
from headstart.features.file import FeatureFile
from headstart.features.text import ClassTexts
from headstart.heads import load
from headstart.images.decoding import decode
from pipeline import evaluate, extract, finetune, novelty, prepare, report, train
from tests.hub_arrays import NETWORKS

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).parents[2]
HEADS: dict[str, Any] = {
    "zero_shot": {},
    "text": {"kind": "logistic", "start": "text"},
    "logistic": {},
}


def _configure(**changes: Any) -> None:
    params = YAML(typ="safe").load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params["prepare"]["source"] = "photos"
    params["extract"] |= {"backbone": "CLIPBase32", "weights": "preset"}
    params["extract"] |= changes.pop("extract", {})
    params["train"]["heads"] = HEADS
    for section, values in changes.items():
        params[section] |= values
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(params, file)


@pytest.fixture
def project(
    hub_folder: Callable[[str, str], Path],
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Photos and a tiny CLIP with its tokenizer, in the folder that becomes the current one."""
    from tests.text_presets import add_tokenizer

    tiny = NETWORKS["clip"]
    spec = replace(
        catalog.get("CLIPBase32"),
        network=HubNetwork("clip", tuple(tiny.arguments.items())),
        default_size=tiny.image_size,
        min_size=8,
        size_multiple=8,
        feature_dim=tiny.arguments["projection_dim"],
    )
    monkeypatch.setattr(catalog, "specs", lambda: (spec,))
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "store"))
    root = tmp_path / "project"
    shutil.copytree(hub_folder("keras_hub", "clip"), root / "preset")
    add_tokenizer("clip", root / "preset")
    (root / "photos").symlink_to(photo_folder)
    monkeypatch.chdir(root)
    return root


def test_names_are_enough_from_photos_to_report(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _configure()
    for stage in (prepare, extract, train, novelty, finetune, evaluate, report):
        stage.main()
    file = FeatureFile.open(Path("features/bottleneck.h5"))
    texts = file.texts
    assert isinstance(texts, ClassTexts)
    assert texts.prompts == (("a photo of a cold.",), ("a photo of a warm.",))
    features = np.asarray(file.features, np.float64)
    cosines = features @ texts.vectors.T / np.linalg.norm(features, axis=1, keepdims=True)
    head = load(Path("models/heads/zero_shot"))
    np.testing.assert_allclose(head.logits(file.features), texts.scale * cosines, atol=1e-4)
    scores = read_json(Path("metrics/test.json"))
    assert set(HEADS) <= set(scores["heads"])

    # Exported they answer as they do here.
    rows = file.rows("test")
    paths = [read_manifest(Path("data/manifest.csv")).rows[row].path for row in file.image[rows]]
    for name in ("zero_shot", "text"):
        out = str(project / "out" / name)
        assert main(["export", "--format", "openvino", "--head", name, "-o", out]) == 0
        predict = writer_of(FORMATS["openvino"]).load(Path(out))
        said = [predict(decode(Path(path).read_bytes())[np.newaxis]) for path in paths]
        expected = load(Path("models/heads") / name).predict_proba(file.features, rows)
        np.testing.assert_allclose(np.concatenate(said), expected, atol=1e-4)

    # The same names need no text tower again.
    monkeypatch.setattr(text_tower.TextTower, "__init__", _refuse)
    digest = file.digest
    extract.main()
    assert FeatureFile.open(Path("features/bottleneck.h5")).digest == digest


def _refuse(*args: object) -> None:
    raise AssertionError("the text tower was built")


def test_fine_tuning_starts_from_names(project: Path) -> None:
    from headstart.finetuning.head_layers import head_layers

    _configure(
        extract={"text": {"names": {"cold": ["cold", "cat"]}}},
        finetune={"head": "zero_shot", "unfreeze": "block_4", "epochs": 1},
    )
    for stage in (prepare, extract, train):
        stage.main()
    file = FeatureFile.open(Path("features/bottleneck.h5"))
    assert isinstance(file.texts, ClassTexts)
    assert file.texts.prompts[0] == ("a photo of a cold.", "a photo of a cat.")
    head = load(Path("models/start/zero_shot"))
    layers = head_layers(head)
    logits = np.asarray(layers(np.asarray(file.features)), np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, head.predict_proba(file.features), atol=1e-5)
    finetune.main()
    assert read_json(Path("models/finetuned/head.json"))["start"]["kind"] == "zero_shot"
    assert main(["predict", "photos/cold", "--model", "models/finetuned"]) == 0


def test_a_preset_without_tokenizer_serves_images_alone(project: Path) -> None:
    (project / "preset/assets/tokenizer/merges.txt").unlink()
    _configure()
    prepare.main()
    extract.main()
    with pytest.raises(InputError) as caught:
        train.main()
    assert str(caught.value) == (
        "params.yaml: train.heads: kind logistic, start text needs text vectors of the classes, "
        "but the preset in preset lacks assets/tokenizer/merges.txt: add the tokenizer's files as "
        "keras_hub's save_to_preset writes them, and run `dvc repro`"
    )


def test_transformers_layout_is_refused(project: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "clip"}')
    save_file({"a": np.zeros(2, np.float32)}, folder / "model.safetensors")
    _configure(extract={"weights": str(folder)})
    prepare.main()
    with pytest.raises(InputError) as caught:
        extract.main()
    assert str(caught.value) == (
        f"weights: {folder}: KerasHub reads CLIPBase32 in its own layout alone (config.json, "
        "model.weights.h5, as save_to_preset writes them), received that of Transformers"
    )


def test_one_training_image_per_class_is_enough(project: Path) -> None:
    paths = {name: sorted(Path("photos", name).iterdir()) for name in ("cold", "warm")}
    lines = [
        f"{path},{name},{'test' if index else 'train'}"
        for name, own in paths.items()
        for index, path in enumerate(own)
    ]
    Path("photos.csv").write_text("\n".join(["path,label,split", *lines]))
    _configure(prepare={"source": "photos.csv"})
    for stage in (prepare, extract, train, novelty, finetune, evaluate):
        stage.main()
    for name in ("zero_shot", "text"):
        assert load(Path("models/heads") / name).card.selected_by == "default"
    scores = read_json(Path("metrics/test.json"))["heads"]
    assert all(scores[name]["images"] == 38 for name in HEADS), scores
