"""`BottleneckFeatures`, as scikit-learn and its users treat a transformer."""

import gc
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks
from sklearn.utils.validation import check_array

from headstart import BottleneckFeatures, read_features
from headstart.common.errors import InputError
from headstart.dataset.manifest import read_manifest
from headstart.extraction import engines
from headstart.extraction.feature_rows import write_features
from headstart.extraction.options import ExtractOptions
from pipeline import prepare

ROOT = Path(__file__).parents[3]
SMALL = {"weights": "random", "image_size": 32, "engine": "openvino"}


def lenet(**changes: object) -> BottleneckFeatures:
    return BottleneckFeatures("LeNet5", **{**SMALL, **changes})


class FeaturesOfRows(BottleneckFeatures):
    """Takes the tables of numbers of scikit-learn's checks, each row as a gray image of its bytes.

    `BottleneckFeatures` itself declares that it takes no such tables, and then no check runs.
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        return super().fit(self._images(X))

    def transform(self, X: Any) -> np.ndarray:
        return super().transform(self._images(X))

    def _images(self, X: Any) -> list[np.ndarray]:
        rows = check_array(X, dtype=np.float64, ensure_all_finite=False)
        return [np.ascontiguousarray(row).view(np.uint8).reshape(1, -1) for row in rows]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Use an empty store; count the images that each call of an engine computes."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "store"))
    counted: list[int] = []
    load = engines.load

    def counting(*arguments: object) -> object:
        engine = load(*arguments)

        class Counting:
            def __getattr__(self, name: str) -> object:
                return getattr(engine, name)

            def __call__(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
                counted.append(len(images))
                return engine(images)

        return Counting()

    monkeypatch.setattr(engines, "load", counting)
    return counted


@pytest.fixture(scope="module")
def paths(photo_folder: Path) -> list[Path]:
    return sorted(photo_folder.rglob("*.jpg"))


@pytest.fixture(scope="module")
def labels(paths: list[Path]) -> list[str]:
    return [path.parent.name for path in paths]


# None fails, so there are no `expected_failed_checks`.
@parametrize_with_checks([FeaturesOfRows("LeNet5", **SMALL)])
def test_scikit_learns_checks_pass(
    estimator: BottleneckFeatures, check: Callable[..., None]
) -> None:
    check(estimator)


def test_tables_of_numbers_are_declared_to_be_no_input() -> None:
    tags = get_tags(BottleneckFeatures())
    assert not tags.requires_fit
    assert tags.no_validation
    assert not tags.input_tags.two_d_array
    with pytest.warns(SkipTestWarning, match="Can't test estimator BottleneckFeatures"):
        check_estimator(BottleneckFeatures())


def test_a_second_cross_validation_runs_no_forward_pass(
    passes: list[int], paths: list[Path], labels: list[str]
) -> None:
    """With the real weights that a package carries, as in the README."""
    model = make_pipeline(BottleneckFeatures(image_size=64), LogisticRegression(max_iter=1000))
    first = cross_val_score(model, paths, labels, cv=3)
    # Within the first cross-validation, too, no image runs twice.
    assert sum(passes) == len(paths)
    second = cross_val_score(model, paths, labels, cv=3)
    assert sum(passes) == len(paths)
    np.testing.assert_array_equal(first, second)
    assert first.mean() > 0.9


def test_a_grid_over_backbone_and_head_computes_each_vector_once(
    passes: list[int], paths: list[Path], labels: list[str]
) -> None:
    model = make_pipeline(lenet(), LogisticRegression(max_iter=1000))
    grid = {"bottleneckfeatures__layer": ["s4", "auto"], "logisticregression__C": [0.1, 1.0, 10.0]}
    search = GridSearchCV(model, grid, cv=2).fit(paths, labels)
    assert sum(passes) == 2 * len(paths)
    assert set(search.predict(paths)) == {"cold", "warm"}


@pytest.mark.slow
def test_jobs_side_by_side_share_the_store(
    passes: list[int], paths: list[Path], labels: list[str]
) -> None:
    model = make_pipeline(lenet(), LogisticRegression(max_iter=1000))
    expected = cross_val_score(model, paths, labels, cv=2)
    found = cross_val_score(model, paths, labels, cv=2, n_jobs=2)
    np.testing.assert_array_equal(found, expected)


def test_the_pipeline_and_the_transformer_share_their_vectors(
    passes: list[int], photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    from headstart.configuration.params import load_params

    params = load_params(ROOT / "params.yaml")
    prepare.run(params.prepare.model_copy(update={"source": str(photo_folder)}))
    options = ExtractOptions.model_validate(
        {**params.extract.model_dump(), "backbone": "LeNet5", **SMALL}
    )
    manifest = read_manifest(Path("data/manifest.csv"))
    write_features(
        manifest, options, features=Path("features/bottleneck.h5"), views=Path("v.png"),
        metrics=Path("m.json"),
    )  # fmt: skip
    before = len(passes)
    table = read_features()
    found = lenet().fit_transform(list(table.path))
    assert len(passes) == before
    np.testing.assert_array_equal(found, table.X)
    assert sorted(set(np.array(table.class_names)[table.y])) == ["cold", "warm"]
    train = table.select("train")
    assert set(train.split) == {"train"}
    frame = train.to_frame()
    assert list(frame.columns[:6]) == ["path", "label", "split", "view", "group", "sha256"]
    assert frame.shape == (len(train.X), 6 + table.X.shape[1])


def test_paths_arrays_and_pillow_images_give_the_same(paths: list[Path]) -> None:
    some = paths[:3]
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in some]
    from_paths = lenet().transform([str(path) for path in some])
    np.testing.assert_array_equal(lenet().transform(arrays), from_paths)
    np.testing.assert_array_equal(lenet().transform(np.stack(arrays)), from_paths)
    np.testing.assert_array_equal(lenet().transform(list(map(Image.open, some))), from_paths)
    np.testing.assert_array_equal(lenet().transform(np.array(some, dtype=object)), from_paths)


def test_what_another_has_computed_since_is_not_computed_again(
    passes: list[int], paths: list[Path]
) -> None:
    one, other = lenet(), lenet()
    one.transform(paths[:2])
    other.transform(paths[:5])
    before = len(passes)
    one.transform(paths[:5])
    assert len(passes) == before


def test_columns_and_tables_of_paths_are_taken(paths: list[Path]) -> None:
    some = [str(path) for path in paths[:3]]
    wanted = lenet().transform(some)
    table = pd.DataFrame({"photo": some, "weight": [1.0, 2.0, 3.0]}, index=[7, 8, 9])
    for given in (
        table["photo"],
        table[["photo"]],
        table[["photo"]].to_numpy(),
        table["photo"].astype("string"),
        np.array(some),
    ):
        np.testing.assert_array_equal(lenet().transform(given), wanted)
    frame = lenet().set_output(transform="pandas").transform(table["photo"])
    assert list(frame.index) == [7, 8, 9]
    beside = make_column_transformer((lenet(), "photo"), ("passthrough", ["weight"]))
    assert beside.fit_transform(table).shape == (3, 121)


def test_one_image_may_stand_in_the_list_more_than_once(paths: list[Path]) -> None:
    image = Image.open(paths[0])
    assert len(np.unique(lenet().transform([image] * 8), axis=0)) == 1


def test_pixels_are_let_go(paths: list[Path]) -> None:
    features = lenet()
    image = np.array(Image.open(paths[0]))
    held = weakref.ref(image)
    features.fit_transform([image])
    del image
    gc.collect()
    assert held() is None


def test_gray_and_transparent_images_are_taken(paths: list[Path]) -> None:
    gray = np.asarray(Image.open(paths[0]).convert("L"))
    as_rgb = np.repeat(gray[..., None], 3, axis=2)
    np.testing.assert_array_equal(lenet().transform([gray]), lenet().transform([as_rgb]))
    assert lenet().transform([Image.new("RGBA", (40, 30))]).shape == (1, 120)


def test_names_and_pandas_output(paths: list[Path]) -> None:
    features = lenet(layer="s4").set_output(transform="pandas")
    frame = features.fit_transform(paths[:2])
    assert features.n_features_out_ == 16
    assert list(frame.columns) == [f"lenet5_s4_{i}" for i in range(16)]
    assert list(features.get_feature_names_out()) == list(frame.columns)


def test_maps_are_flattened(paths: list[Path]) -> None:
    assert lenet(layer="s4", pooling="none").fit_transform(paths[:2]).shape == (2, 5 * 5 * 16)


def test_clones_and_pickles_hold_parameters_alone(paths: list[Path]) -> None:
    features = lenet().fit(paths)
    assert len(pickle.dumps(features)) < 1000
    again = pickle.loads(pickle.dumps(features))  # noqa: S301 - what was written a line above
    np.testing.assert_array_equal(again.transform(paths[:2]), features.transform(paths[:2]))
    assert clone(features).get_params() == features.get_params()


def test_a_changed_parameter_counts_at_once(paths: list[Path]) -> None:
    features = lenet().fit(paths)
    assert features.set_params(layer="s4").transform(paths[:1]).shape == (1, 16)


def test_parameters_may_be_numbers_of_numpy(paths: list[Path]) -> None:
    wanted = lenet(image_size=(32, 48), seed=1).transform(paths[:1])
    given = lenet(image_size=np.array([32, 48]), seed=np.int64(1)).transform(paths[:1])
    np.testing.assert_array_equal(given, wanted)


def test_names_need_to_know_how_many(paths: list[Path]) -> None:
    with pytest.raises(NotFittedError, match="call fit or transform"):
        lenet().get_feature_names_out()


def test_weights_that_are_written_anew_count_at_once(tmp_path: Path, paths: list[Path]) -> None:
    from headstart.catalog import building, get

    file = tmp_path / "mine.weights.h5"
    features = lenet(weights=str(file))
    found = []
    for seed in range(2):
        building.build_architecture(get("LeNet5"), (32, 32), seed=seed).save_weights(file)
        found.append(features.transform(paths[:1]))
    assert not np.array_equal(*found)


def test_a_folder_of_ones_own_holds_the_store(tmp_path: Path, paths: list[Path]) -> None:
    features = lenet(cache=tmp_path / "own").fit(paths)
    assert any((tmp_path / "own" / "features").iterdir())
    features.set_params(cache=str(tmp_path / "other")).transform(paths)
    assert any((tmp_path / "other" / "features").iterdir())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda _: "a.jpg", TypeError, "expected a sequence of images, received one str"),
        (lambda _: Image.new("RGB", (8, 8)), TypeError, "received one Image; put it in a list"),
        (lambda _: np.zeros((8, 8, 3), np.uint8), TypeError, "received one ndarray"),
        (lambda _: pd.DataFrame({"a": ["x"], "b": ["y"]}), ValueError, "of the columns a, b"),
        (lambda _: [Image.new("F", (8, 8))], InputError, "image 0: pixels of 32 bits"),
        (lambda _: [], ValueError, "expected at least one image"),
        (lambda _: [3], TypeError, "image 0: expected a path, an array or a Pillow image"),
        (lambda _: np.zeros((2, 8, 8, 3)), ValueError, r"received an array of float64 with shape"),
        (lambda _: np.zeros((2, 8), np.uint8), ValueError, r"received an array of shape \(2, 8\)"),
        (lambda _: [np.zeros((8, 8, 4), np.uint8)], ValueError, r"image 0: .*\(8, 8, 4\)"),
        (lambda _: [np.zeros((0, 8, 3), np.uint8)], ValueError, r"received shape \(0, 8, 3\)"),
        (lambda root: [root / "no.jpg"], InputError, r"1 of the images cannot be read.*no\.jpg"),
    ],
)
def test_what_is_no_image_is_refused(
    tmp_path: Path, make: Callable[[Path], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"(?s){message}"):
        lenet().fit(make(tmp_path))


def test_damaged_files_are_named(tmp_path: Path, paths: list[Path]) -> None:
    damaged = tmp_path / "cut.jpg"
    damaged.write_bytes(paths[0].read_bytes()[:2000])
    with pytest.raises(InputError, match=r"cut\.jpg: damaged JPEG"):
        lenet().transform([paths[0], damaged])
    assert lenet().transform(paths[:1]).shape == (1, 120)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "LeNet6"}, "there is no 'LeNet6' in the catalog"),
        ({"pooling": "median"}, "BottleneckFeatures: pooling: .*received 'median'"),
        ({"image_size": -3}, "BottleneckFeatures: image_size: "),
        ({"layer": "no_such"}, "no_such"),
    ],
)
def test_parameters_that_cannot_be_are_refused(
    paths: list[Path], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        lenet().set_params(**changes).fit(paths)


def test_importing_takes_a_moment() -> None:
    code = (
        "import sys, headstart; heavy = {'tensorflow', 'keras', 'sklearn', 'pandas', 'numpy', "
        "'h5py', 'openvino'} & set(sys.modules); assert not heavy, heavy; "
        "assert 'BottleneckFeatures' in dir(headstart)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_an_unknown_name_is_refused() -> None:
    import headstart

    with pytest.raises(AttributeError, match="module 'headstart' has no attribute 'Backbones'"):
        _ = headstart.Backbones
