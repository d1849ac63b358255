from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from headstart.common.errors import InputError
from headstart.common.files import digest_of, read_json
from headstart.common.seal import create_sealed_h5
from headstart.evaluation import novelty
from headstart.evaluation.novelty import Novelty, conformal_threshold, fit, write_novelty
from headstart.evaluation.options import NoveltyOptions
from headstart.features.file import Columns, FeatureFile, Header, write_feature_file
from tests.feature_files import make_identity

PREPROCESSING = {"divisor": 255.0}
IDENTITY = make_identity(
    layer="flatten", pooling="none", preprocessing_digest=digest_of(PREPROCESSING)
)


def make_file(
    path: Path,
    features: np.ndarray,
    split: list[str],
    *,
    group: np.ndarray | None = None,
    label: np.ndarray | None = None,
) -> FeatureFile:
    n_rows = len(features)
    label = np.arange(n_rows) % 2 if label is None else label
    header = Header(
        class_names=tuple(f"class {number}" for number in range(label.max() + 1)),
        identity=IDENTITY,
        feature_shape=features.shape[1:],
        preprocessing=PREPROCESSING,
        augment=None,
        versions={},
    )
    columns = Columns(
        label=label,
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


def test_the_familiar_is_kept_and_the_strange_is_not(file: FeatureFile) -> None:
    fitted = fit(file, keep=0.95)
    assert np.mean(fitted.score(file.features[file.rows("test")]) <= 1) > 0.85
    assert (fitted.score(familiar(50, 1)[:, ::-1].astype(np.float32)) > 1).all()
    assert np.isfinite(fitted.score(np.zeros((1, 32), np.float32))).all()
    assert fitted.score(np.empty((0, 32), np.float32)).shape == (0,)
    assert fitted.feature_digest == IDENTITY.feature_digest


def classes(rng: np.random.Generator, n_units: int, sizes: tuple[int, ...]) -> tuple:
    """Units of images that share most of what sets them apart: features, labels, units."""
    label = rng.integers(0, 3, n_units)
    size = rng.choice(sizes, n_units)
    own = rng.normal(0, 1, (n_units, 5)) @ np.eye(5, 40) + rng.normal(0, 0.3, (n_units, 40))
    unit = np.repeat(np.arange(n_units), size)
    features = (own + 2 * np.eye(3, 40)[label])[unit] + rng.normal(0, 0.1, (len(unit), 40))
    return (features + 3).astype(np.float32), label[unit], unit


@pytest.mark.parametrize("sizes", [(1,), (1, 4)])
@pytest.mark.parametrize(("n_units", "keep", "turned_away"), [(59, 0.9, 0.1), (30, 0.99, 1 / 31)])
def test_no_more_new_images_are_turned_away_than_is_said(
    tmp_path: Path, n_units: int, keep: float, turned_away: float, sizes: tuple[int, ...]
) -> None:
    shares = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        features, label, unit = classes(rng, n_units, sizes)
        split = np.where(unit % 4 == 0, "validation", "train").tolist()
        fitted = fit(
            make_file(tmp_path / f"{seed}.h5", features, split, group=unit, label=label), keep=keep
        )
        assert fitted.units == n_units
        assert 1 - fitted.kept == pytest.approx(turned_away)
        fresh, _, _ = classes(rng, 400, (1,))
        shares.append(np.mean(fitted.score(fresh) > 1))
    # Three standard errors of the mean over the draws, either way.
    error = 3 * np.std(shares) / np.sqrt(len(shares))
    assert turned_away - error - 0.02 < np.mean(shares) < turned_away + error


def test_the_threshold_is_the_score_that_so_many_exceed() -> None:
    scores = np.random.default_rng(0).permutation(99).astype(np.float64)
    assert conformal_threshold(scores, 0.99) == (98, pytest.approx(0.99))
    assert conformal_threshold(scores, 0.9) == (89, pytest.approx(0.9))
    # What 98 cannot tell is not said.
    assert conformal_threshold(scores[scores < 98], 0.99) == (97, pytest.approx(98 / 99))
    assert conformal_threshold(scores, 1e-6) == (0, pytest.approx(0.01))
    assert conformal_threshold(np.empty(0), 0.99) == (0, 0)


def test_too_few_images_for_what_was_asked_are_told(
    file: FeatureFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(file, keep=0.99).shortfall() == ""
    few = make_file(tmp_path / "few.h5", familiar(60, 0), ["train"] * 50 + ["validation"] * 10)
    out = tmp_path / "novelty.h5"
    write_novelty(few, NoveltyOptions(keep=0.99), model=out, metrics=tmp_path / "novelty.json")
    assert capsys.readouterr().err == (
        "warning: with 60 training images (copies or a group count as one), 1.64% of ordinary "
        "images are above novelty 1; the 1.00% of novelty.keep takes 99.\n"
    )
    assert read_json(tmp_path / "novelty.json")["calibration"] == {
        "units": 60, "kept": pytest.approx(60 / 61),
    }  # fmt: skip
    assert fit(few, keep=0.95).shortfall() == ""


def test_one_image_of_each_class(tmp_path: Path) -> None:
    one = make_file(tmp_path / "one.h5", familiar(40, 0), ["train"] * 40, label=np.arange(40) % 40)
    fitted = fit(one, keep=0.9)
    assert fitted.units == 40
    assert np.mean(fitted.score(familiar(200, 1).astype(np.float32)) <= 1) > 0.8
    assert (fitted.score(familiar(50, 1)[:, ::-1].astype(np.float32)) > 1).all()


def test_one_class_alone(tmp_path: Path) -> None:
    lone = make_file(
        tmp_path / "lone.h5", familiar(60, 0), ["train"] * 60, label=np.zeros(60, np.int64)
    )
    fitted = fit(lone, keep=0.9)
    assert np.mean(fitted.score(familiar(200, 1).astype(np.float32)) <= 1) > 0.8
    assert (fitted.score(familiar(50, 1)[:, ::-1].astype(np.float32)) > 1).all()


@pytest.mark.parametrize("n_images", [1, 2, 4])
def test_a_handful_and_copies_are_enough(tmp_path: Path, n_images: int) -> None:
    same = make_file(tmp_path / "same.h5", np.ones((n_images, 8)), ["train"] * n_images)
    fitted = fit(same, keep=0.99)
    assert fitted.score(np.ones((1, 8), np.float32))[0] <= 1
    assert fitted.score(np.eye(8, dtype=np.float32)[:1])[0] > 1
    # One image has none to be compared with.
    assert fitted.units == (0 if n_images == 1 else n_images)


def test_saved_and_loaded_it_says_the_same(file: FeatureFile, tmp_path: Path) -> None:
    fitted = fit(file, keep=0.99)
    fitted.save(tmp_path / "a.h5")
    fit(file, keep=0.99).save(tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    loaded = Novelty.load(tmp_path / "a.h5")
    # Not what they score, which some processors add up by where it lies in memory.
    for field in fields(fitted.gaussians):
        one, other = (getattr(each.gaussians, field.name) for each in (loaded, fitted))
        assert np.array_equal(one, other), field.name
    assert replace(loaded, gaussians=fitted.gaussians) == fitted


def test_what_is_stated_and_what_test_images_keep_is_written(
    file: FeatureFile, tmp_path: Path
) -> None:
    options = NoveltyOptions(keep=0.95)
    write_novelty(file, options, model=tmp_path / "novelty.h5", metrics=tmp_path / "novelty.json")
    written = Novelty.load(tmp_path / "novelty.h5")
    content = read_json(tmp_path / "novelty.json")
    assert content["threshold"] == written.threshold
    assert content["calibration"] == {"units": 500, "kept": pytest.approx(1 - 25 / 501)}
    assert content["test"]["images"] == 100
    assert 0.85 < content["test"]["kept"] <= 1


def test_spatial_maps_are_averaged(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((40, 3, 2, 8)).astype(np.float32)
    fitted = fit(make_file(tmp_path / "maps.h5", maps, ["train"] * 40), keep=0.9)
    assert fitted.gaussians.center.shape == (8,)
    assert np.array_equal(fitted.score(maps[:5]), fitted.score(maps[:5].mean(axis=(1, 2))))


def test_large_sets_and_large_units_are_sampled(
    file: FeatureFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(novelty, "MAX_CALIBRATION", 50)
    assert fit(file, keep=0.95).units == 50
    monkeypatch.setattr(novelty, "MAX_PER_UNIT", 2)
    group = np.repeat([3, 1, 7, -1], [5, 2, 9, 3])
    rows, unit = novelty._units(np.arange(100, 119), group)
    assert rows.tolist() == [100, 104, 105, 106, 107, 115, 116, 117, 118]
    assert unit[:6].tolist() == [unit[0]] * 2 + [unit[2]] * 2 + [unit[4]] * 2
    assert sorted(set(unit.tolist())) == [0, 1, 2, 3, 4, 5]


def test_features_that_are_not_finite_have_no_novelty(file: FeatureFile) -> None:
    wrong = np.ones((2, 32), np.float32)
    wrong[0, 3], wrong[1, 5] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(fit(file, keep=0.95).score(wrong)).any()


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.h5: no such file: run `dvc repro novelty`"):
        Novelty.load(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InputError, match=r"text.h5: not a file that .* `dvc repro novelty`"):
        Novelty.load(tmp_path / "text.h5")
    with create_sealed_h5(tmp_path / "old.h5", "novelty 2"):
        pass
    with pytest.raises(
        InputError,
        match="format 'novelty 3', received 'novelty 2': run `dvc repro novelty` to write it anew",
    ):
        Novelty.load(tmp_path / "old.h5")


@pytest.mark.parametrize("name", ["center", "means", "usual", "threshold"])
def test_what_could_never_turn_an_image_away_is_not_written(
    file: FeatureFile, tmp_path: Path, name: str
) -> None:
    fitted = fit(file, keep=0.99)
    if name == "threshold":
        broken = replace(fitted, threshold=np.nan)
    else:
        values = getattr(fitted.gaussians, name) * np.float32(np.nan)
        broken = replace(fitted, gaussians=replace(fitted.gaussians, **{name: values}))
    with pytest.raises(InputError, match=f"novelty.h5: {name}: expected finite numbers"):
        broken.save(tmp_path / "novelty.h5")
    assert list(tmp_path.iterdir()) == []
