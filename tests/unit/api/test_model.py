"""`load_model`: from any folder, for any images."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from headstart import InputError, LoadedModel, api, load_model
from headstart.catalog import building, get
from headstart.common import places
from headstart.evaluation.novelty import Novelty
from pipeline import evaluate, extract, finetune, train


@pytest.fixture
def model(trained: Path) -> LoadedModel:
    return load_model(trained / "models/heads/logistic")


def test_a_project_gives_the_selected_model_from_any_folder(
    trained: Path, model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    selected = load_model(trained)
    assert selected.folder.parent == trained / "models/heads"
    assert list(selected.classes_) == ["cold", "warm"]
    assert repr(model).endswith("logistic', classes: cold, warm)")


def test_files_arrays_and_pillow_images_are_classified_alike(
    trained: Path, model: LoadedModel
) -> None:
    paths = sorted((trained / "photos").rglob("*.jpg"))[::7]
    table = model.predict(paths)
    assert list(table["class"]) == [path.parent.name for path in paths]
    assert table["novelty"].notna().all()
    arrays = [np.asarray(Image.open(path)) for path in paths]
    for images in (arrays, np.stack(arrays), [Image.open(path) for path in paths]):
        other = model.predict(images)
        assert list(other["path"]) == [f"image {position}" for position in range(len(paths))]
        for column in ("class", "probability", "novelty"):
            assert list(other[column]) == list(table[column])


def test_probabilities_are_those_of_the_table(trained: Path, model: LoadedModel) -> None:
    photos = trained / "photos"
    table, probabilities = model.predict(photos), model.predict_proba(photos)
    assert probabilities.shape == (40, 2)
    np.testing.assert_array_equal(table["class"], model.classes_[probabilities.argmax(axis=1)])
    np.testing.assert_array_equal(table["probability"], probabilities.max(axis=1))
    one = model.predict_proba(photos / "cold" / "00.jpg")
    # The last bits of a product depend on the number of rows.
    np.testing.assert_allclose(one, probabilities[:1], atol=1e-6)


def test_many_images_in_parts_come_in_order(
    trained: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model.predict(trained / "photos")
    monkeypatch.setattr(api.model, "_CHUNK", 7)
    pd.testing.assert_frame_equal(model.predict(trained / "photos"), whole, rtol=1e-4)


def test_a_model_alone_tells_no_novelty(trained: Path, tmp_path: Path) -> None:
    alone = tmp_path / "a" / "b" / "c"
    shutil.copytree(trained / "models/heads/logistic", alone)
    with pytest.warns(UserWarning, match=r"novelty\.h5: no such file; novelty is missing"):
        model = load_model(alone)
    table = model.predict(trained / "photos/warm")
    assert table["novelty"].isna().all()
    assert set(table["class"]) == {"warm"}


def test_novelty_of_other_features_is_not_believed(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models/heads/logistic"
    shutil.copytree(trained / "models/heads/logistic", folder)
    novelty = Novelty.load(trained / places.NOVELTY)
    replace(novelty, feature_digest="0" * 64).save(tmp_path / places.NOVELTY)
    with pytest.warns(UserWarning, match=r"novelty\.h5: made for other features than this model"):
        model = load_model(folder)
    assert model.predict(trained / "photos/warm")["novelty"].isna().all()


def test_what_cannot_be_read_is_named_all_at_once(
    trained: Path, model: LoadedModel, tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    good = trained / "photos/warm/00.jpg"
    with pytest.raises(InputError, match=r"(?s)^2 of the images.*a\.jpg: no such.*b\.jpg: no such"):
        model.predict([good, "b.jpg", "a.jpg"])
    with pytest.raises(InputError, match=r"text\.jpg: no image of a known format"):
        model.predict_proba(tmp_path)
    with pytest.raises(InputError, match="no image matches this pattern"):
        model.predict(tmp_path / "*.png")
    with pytest.raises(ValueError, match="expected at least one image"):
        model.predict([])


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        load_model(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}: expected a model's folder, which holds head.json, or that of a project whose "
        "`dvc repro` has finished, which holds metrics/test.json; received neither"
    )


@pytest.fixture
def edit(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Copy the project, set values of params.yaml sections, and stay in the copy."""

    def make(**sections: dict[str, object]) -> Path:
        root = tmp_path / "project"
        shutil.copytree(trained, root)
        params = YAML(typ="safe").load((root / "params.yaml").read_text())
        for name, values in sections.items():
            params[name] |= values
        YAML().dump(params, root / "params.yaml")
        monkeypatch.chdir(root)
        return root

    return make


def test_weights_named_relative_to_the_project_are_found_from_elsewhere(
    edit: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "models/pretrained/mine.weights.h5"
    root = edit(extract={"weights": name, "image_size": 32})
    (root / name).parent.mkdir()
    building.build_architecture(get("LeNet5"), (32, 32), seed=5).save_weights(root / name)
    for stage in (extract, train):
        stage.main()
    here = load_model("models/heads/prototype").predict_proba("photos/cold")
    monkeypatch.chdir(tmp_path)
    there = load_model("project/models/heads/prototype").predict_proba("project/photos/cold")
    np.testing.assert_array_equal(there, here)


@pytest.mark.slow
def test_the_fine_tuned_model_is_loaded_like_any_other(edit: Callable[..., Path]) -> None:
    root = edit(finetune={"unfreeze": "last_block", "epochs": 1})
    for stage in (train, finetune, evaluate):
        stage.main()
    table = load_model(root / "models/finetuned").predict("photos")
    assert np.mean(table["class"] == [Path(path).parent.name for path in table["path"]]) > 0.9
    assert table["novelty"].notna().all()
