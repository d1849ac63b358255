"""Manifest and images become the feature file, its counts, and a sheet of views."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.common.errors import InputError
from headstart.common.vocabulary import Split
from headstart.dataset.manifest import Manifest, ManifestRow, read_manifest, write_manifest
from headstart.extraction.feature_rows import wanted_features
from headstart.extraction.options import ExtractOptions
from headstart.features.file import FeatureFile
from headstart.images.options import AugmentOptions
from pipeline import extract

SPLITS = ("train", "train", "train", "validation", "test")


def options(views: int = 0, **changes: object) -> ExtractOptions:
    defaults = {
        "backbone": "LeNet5",
        "weights": "random",
        "seed": 0,
        "image_size": 32,
        "resize": "stretch",
        "layer": "auto",
        "pooling": "avg",
        "engine": "openvino",
        "precision": "float32",
        "augment": AugmentOptions(views=views, seed=0, horizontal_flip=0.5, rotation=10.0),
    }
    return ExtractOptions(**{**defaults, **changes})


@pytest.fixture
def manifest(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    photo_folder: Path,
) -> Manifest:
    """40 photos, of which 24 train; an empty store, in the folder that becomes the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "store"))
    # The converted model is kept from test to test; the features are not.
    models = tmp_path_factory.getbasetemp() / "stage-models"
    models.mkdir(exist_ok=True)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "models").symlink_to(models)
    rows = [
        ManifestRow(
            str(path),
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.parent.name,
            SPLITS[index % 5],
            "pair" if index < 2 else "",
            128,
            96,
        )
        for index, path in enumerate(sorted(photo_folder.rglob("*.jpg")))
    ]
    write_manifest(Path("data/manifest.csv"), Manifest(rows))
    return read_manifest(Path("data/manifest.csv"))


def metrics() -> dict[str, Any]:
    return json.loads(Path("metrics/extract.json").read_text())


def test_rows_are_in_manifest_order(manifest: Manifest) -> None:
    extract.run(manifest, options())
    file = FeatureFile.open(Path("features/bottleneck.h5"))
    assert file.features.shape == (40, 120)
    assert file.image.tolist() == list(range(40))
    assert file.sha256.tolist() == [row.sha256 for row in manifest]
    assert file.split.tolist() == [row.split for row in manifest]
    assert np.array_equal(file.label, manifest.labels)
    assert np.array_equal(file.group, manifest.groups)
    assert file.header.class_names == ("cold", "warm")
    assert metrics() == {
        "images": 40,
        "views": 0,
        "computed": 40,
        "reused": 0,
        "feature_dim": 120,
        # LeNet-5 up to c5 at 32 x 32; by hand in tests/unit/extraction/test_network_size.py.
        "cost": {"multiply_adds": 405_600, "parameters": 50_692},
    }


def test_views_never_leave_the_training_split(manifest: Manifest) -> None:
    extract.run(manifest, options(views=2))
    file = FeatureFile.open(Path("features/bottleneck.h5"))
    assert set(file.split[file.view > 0]) == {"train"}
    assert file.view.tolist()[:7] == [0, 1, 2, 0, 1, 2, 0]
    assert (metrics()["images"], metrics()["views"]) == (40, 48)
    assert len(file) == 88


def test_the_same_bytes_from_scratch_and_from_the_store(manifest: Manifest) -> None:
    produced = []
    for folder in ("store", "store", "another"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HEADSTART_CACHE", str(Path(folder).absolute()))
            extract.run(manifest, options(views=1))
        names = ("features/bottleneck.h5", "plots/views.png")
        produced.append([Path(name).read_bytes() for name in names])
        assert metrics()["computed"] + metrics()["reused"] == 64
        assert metrics()["reused"] == (64 if len(produced) == 2 else 0)
    assert produced[0] == produced[1] == produced[2]


def test_what_is_told(manifest: Manifest, capsys: pytest.CaptureFixture[str]) -> None:
    extract.run(manifest, options())
    first, last = capsys.readouterr().out.splitlines()
    assert first == "LeNet5, random weights, seed 0; layer c5, openvino, float32"
    assert re.fullmatch(r"40 computed, 0 reused, \d+\.\d s", last)
    with Image.open("plots/views.png") as sheet:
        assert sheet.width > 600


def test_main_reads_manifest_and_params(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("backbone: EfficientNetLite0", "backbone: LeNet5")
    text = text.replace("weights: pretrained", "weights: random", 1)
    Path("params.yaml").write_text(text, encoding="utf-8")
    extract.main()
    assert FeatureFile.open(Path("features/bottleneck.h5")).header.identity.backbone == "LeNet5"


def test_an_image_that_changed(manifest: Manifest) -> None:
    rows = [manifest.rows[0]._replace(sha256="0" * 64), *manifest.rows[1:]]
    with pytest.raises(InputError, match=r"00\.jpg: the file has changed: expected sha256 0000"):
        extract.run(Manifest(rows), options())
    assert not Path("features/bottleneck.h5").exists()


def test_corrections_change_no_test_image_of_a_share() -> None:
    def row(number: int, split: Split) -> ManifestRow:
        label = ("cat", "dog")[number % 2]
        return ManifestRow(f"{number:03}.jpg", f"{number:064x}", label, split, "", 8, 8)

    rows = [row(number, "train" if number < 60 else "test") for number in range(120)]
    corrected = [
        one._replace(label="bird", correction="relabel", given_label=one.label)
        if number % 5 == 0
        else one._replace(split="dropped")
        if number % 7 == 0 and number >= 60
        else one
        for number, one in enumerate(rows)
    ]

    def chosen(rows: list[ManifestRow]) -> set[str]:
        manifest = Manifest(rows)
        found = wanted_features(manifest, options(share=0.3)).images
        return {manifest.rows[i].path for i in found if manifest.rows[i].source_split == "test"}

    assert chosen(corrected) == chosen(rows)
