from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstart.common.errors import InputError
from headstart.common.files import digest_of, read_json
from headstart.common.seal import create_sealed_h5
from headstart.evaluation import novelty
from headstart.evaluation.novelty import Novelty, fit, spread, write_novelty
from headstart.evaluation.options import NoveltyOptions
from headstart.features.file import Columns, FeatureFile, Header, write_feature_file
from tests.feature_files import make_identity

PREPROCESSING = {"divisor": 255.0}
IDENTITY = make_identity(
    layer="flatten", pooling="none", preprocessing_digest=digest_of(PREPROCESSING)
)


def make_file(
    path: Path, features: np.ndarray, split: list[str], group: np.ndarray | None = None
) -> FeatureFile:
    n_rows = len(features)
    header = Header(
        class_names=("a", "b"),
        identity=IDENTITY,
        feature_shape=features.shape[1:],
        preprocessing=PREPROCESSING,
        augment=None,
        versions={},
    )
    columns = Columns(
        label=np.arange(n_rows) % 2,
        split=np.array(split),
        sha256=np.array([f"{number:064x}" for number in range(n_rows)]),
        view=np.zeros(n_rows, np.int32),
        group=np.full(n_rows, -1) if group is None else group,
        image=np.arange(n_rows),
    )
    write_feature_file(path, header, columns, features.astype(np.float32))
    return FeatureFile.open(path)


def familiar(n: int, seed: int) -> np.ndarray:
    """Features around one direction."""
    rng = np.random.default_rng(seed)
    return np.abs(rng.normal(0, 0.3, (n, 32))) + np.linspace(0, 2, 32)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> FeatureFile:
    split = ["train"] * 300 + ["validation"] * 200 + ["test"] * 100
    return make_file(tmp_path_factory.mktemp("f") / "features.h5", familiar(600, 0), split)


def test_threshold_keeps_the_share_of_validation_that_was_asked_for(file: FeatureFile) -> None:
    for keep in (0.9, 0.99):
        fitted = fit(file, neighbors=5, keep=keep)
        scores = fitted.score(file.features[file.rows("validation")])
        assert np.mean(scores <= 1) == pytest.approx(keep, abs=0.011)
        assert fitted.feature_digest == IDENTITY.feature_digest


def test_the_familiar_is_kept_and_the_strange_is_not(file: FeatureFile) -> None:
    fitted = fit(file, neighbors=5, keep=0.95)
    assert np.mean(fitted.score(file.features[file.rows("test")]) <= 1) > 0.85
    strange = familiar(50, 1)[:, ::-1].astype(np.float32)
    assert (fitted.score(strange) > 1).all()
    assert np.isfinite(fitted.score(np.zeros((1, 32), np.float32))).all()
    assert fitted.score(np.empty((0, 32), np.float32)).shape == (0,)


def test_score_is_the_distance_to_the_kth_nearest_neighbor(file: FeatureFile) -> None:
    fitted = fit(file, neighbors=3, keep=0.95)
    (vector,) = familiar(1, 2).astype(np.float32)
    train = file.features[file.rows("train")].astype(np.float64)
    cosine = train @ vector / np.linalg.norm(train, axis=1) / np.linalg.norm(vector)
    expected = np.sort(1 - cosine)[2] / fitted.threshold
    assert fitted.score(vector[None])[0] == pytest.approx(expected, rel=2e-3)


def test_few_validation_images_are_helped_by_training_images(tmp_path: Path) -> None:
    split = ["train"] * 195 + ["validation"] * 5
    few = make_file(tmp_path / "few.h5", familiar(200, 0), split)
    fitted = fit(few, neighbors=5, keep=0.95)
    assert np.mean(fitted.score(familiar(1000, 3).astype(np.float32)) <= 1) == pytest.approx(
        0.95, abs=0.04
    )


def test_two_training_images_and_copies_are_enough(tmp_path: Path) -> None:
    same = make_file(tmp_path / "same.h5", np.ones((4, 8)), ["train"] * 4)
    fitted = fit(same, neighbors=5, keep=0.99)
    assert fitted.score(np.ones((1, 8), np.float32))[0] <= 1
    assert fitted.score(np.eye(8, dtype=np.float32)[:1])[0] > 1


def test_saved_and_loaded_it_says_the_same(file: FeatureFile, tmp_path: Path) -> None:
    fitted = fit(file, neighbors=5, keep=0.99)
    fitted.save(tmp_path / "a.h5")
    fitted.save(tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    loaded = Novelty.load(tmp_path / "a.h5")
    probe = familiar(20, 4).astype(np.float32)
    assert np.array_equal(loaded.score(probe), fitted.score(probe))
    assert loaded.kept == 0.99


def test_the_share_kept_of_each_split_is_written(file: FeatureFile, tmp_path: Path) -> None:
    options = NoveltyOptions(neighbors=5, keep=0.95)
    write_novelty(file, options, model=tmp_path / "novelty.h5", metrics=tmp_path / "novelty.json")
    written = Novelty.load(tmp_path / "novelty.h5")
    content = read_json(tmp_path / "novelty.json")
    assert (content["threshold"], content["neighbors"]) == (written.threshold, 5)
    assert content["bank"] == len(written.bank) == 300
    assert content["validation"] == {"images": 200, "kept": pytest.approx(0.95, abs=0.011)}
    assert content["test"]["images"] == 100
    assert 0.85 < content["test"]["kept"] <= 1


def test_spatial_maps_are_averaged(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((40, 3, 2, 8)).astype(np.float32)
    fitted = fit(
        make_file(tmp_path / "maps.h5", maps, ["train"] * 30 + ["validation"] * 10),
        neighbors=2,
        keep=0.9,
    )
    assert fitted.bank.shape == (30, 8)
    assert np.allclose(fitted.score(maps[:5]), fitted.score(maps[:5].mean(axis=(1, 2))), rtol=1e-5)


def test_a_large_training_set_is_sampled_class_by_class(
    file: FeatureFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.repeat([0, 1, 2], [1000, 10, 500])
    chosen = spread(labels, np.arange(1510), 100)
    assert np.bincount(labels[chosen]).tolist() == [45, 10, 45]
    assert (np.diff(chosen) > 0).all()
    monkeypatch.setattr(novelty, "MAX_BANK", 50)
    assert len(fit(file, neighbors=5, keep=0.95).bank) == 50


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.h5: no such file: run `dvc repro novelty`"):
        Novelty.load(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InputError, match=r"text.h5: not a file that .* `dvc repro novelty`"):
        Novelty.load(tmp_path / "text.h5")
    with create_sealed_h5(tmp_path / "other.h5", "novelty 99"):
        pass
    with pytest.raises(InputError, match="format 'novelty 2', received 'novelty 99'"):
        Novelty.load(tmp_path / "other.h5")


@pytest.mark.parametrize("name", ["bank", "threshold"])
def test_what_could_never_turn_an_image_away_is_not_written(
    file: FeatureFile, tmp_path: Path, name: str
) -> None:
    fitted = fit(file, neighbors=5, keep=0.99)
    broken = replace(fitted, **{name: getattr(fitted, name) * np.float32(np.nan)})
    with pytest.raises(InputError, match=f"novelty.h5: {name}: expected finite numbers"):
        broken.save(tmp_path / "novelty.h5")
    assert list(tmp_path.iterdir()) == []


def test_copies_are_not_what_is_usual(tmp_path: Path) -> None:
    pictures = familiar(12, 0)
    alone = make_file(tmp_path / "alone.h5", pictures, ["train"] * 12)
    copied = make_file(
        tmp_path / "copied.h5", np.repeat(pictures, 9, axis=0), ["train"] * 108,
        group=np.repeat(np.arange(12), 9),
    )  # fmt: skip
    for neighbors in (1, 3):
        expected = fit(alone, neighbors=neighbors, keep=0.9).threshold
        assert fit(copied, neighbors=neighbors, keep=0.9).threshold == expected > 0.001
