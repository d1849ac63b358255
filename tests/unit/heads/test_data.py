from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headstart.common.errors import InputError
from headstart.heads import data as data_module
from headstart.heads.data import TrainingData, describe_bytes, some_of_each
from tests.feature_files import blobs, spread_splits, write_project

DEFAULTS = {"min_validation": 1, "folds_below": 0, "streaming_above": 10**9, "seed": 0}


def _data(root: Path, *, n_per_class: int = 20, views: int = 0, **options: object) -> TrainingData:
    features, labels = blobs(n_per_class)
    group = options.pop("group", None)
    split = options.pop("split", None)
    file = write_project(root, features, labels, views=views, group=group, split=split)
    return TrainingData.from_file(file, **{**DEFAULTS, **options})


def test_enough_validation_images_make_one_fold(tmp_path: Path) -> None:
    data = _data(tmp_path, views=2)
    (fold,) = data.folds(cheap=True)
    assert data.selected_by(cheap=True) == "validation"
    np.testing.assert_array_equal(fold.held_out, data.validation)
    np.testing.assert_array_equal(fold.train, data.train)
    assert len(data.train) == 3 * len(data.train_images)


@pytest.mark.parametrize(
    ("options", "cheap", "expected"),
    [
        ({"min_validation": 5}, False, "cross-validation"),
        ({"folds_below": 13}, False, "validation"),
        ({"folds_below": 13}, True, "cross-validation"),
        ({"folds_below": 12}, True, "validation"),
        ({"folds_below": 60}, False, "validation"),
        ({"folds_below": 61}, False, "cross-validation"),
    ],
)
def test_too_few_validation_images_make_folds(
    tmp_path: Path, options: dict[str, int], cheap: bool, expected: str
) -> None:
    features, labels = blobs(20)
    labels = labels[np.argsort(np.argsort(labels, kind="stable") % 20, kind="stable")]
    file = write_project(tmp_path, features, np.sort(labels))
    data = TrainingData.from_file(file, **{**DEFAULTS, **options})
    assert np.bincount(data.label[data.validation]).tolist() == [4, 4, 4]
    assert data.selected_by(cheap=cheap) == expected


def test_of_few_shots_nothing_else_teaches_or_chooses(tmp_path: Path) -> None:
    data = _data(tmp_path, views=1, shots=4)
    np.testing.assert_array_equal(data.everything, data.train)
    assert (len(data.train), len(data.train_images)) == (24, 12)
    assert not data.validation_suffices
    assert not data.validation_stops
    for cheap in (True, False):
        assert data.selected_by(cheap=cheap) == "cross-validation"
        for fold in data.folds(cheap=cheap):
            assert set(fold.train) | set(fold.held_out) <= set(data.train)
    one = _data(tmp_path / "one", shots=1)
    assert one.selected_by(cheap=True) == "default"
    assert one.folds(cheap=True) == ()


def test_a_cross_entropy_is_adjusted_by_how_often_classes_train(tmp_path: Path) -> None:
    features, labels = blobs(20, 2)
    split = np.where((labels == 1) & (np.arange(40) % 4 > 0), "validation", "train")
    file = write_project(tmp_path, features, labels, split=split)
    counts = np.bincount(labels[split == "train"])
    data = TrainingData.from_file(file, **DEFAULTS, class_weight="logit_adjusted")
    np.testing.assert_allclose(np.exp(data.log_prior), counts / counts.sum())
    np.testing.assert_allclose(data.class_weight * counts, counts.sum() / 2)
    np.testing.assert_array_equal(data.loss_weight, [1, 1])
    weighted = TrainingData.from_file(file, **DEFAULTS, class_weight="balanced")
    np.testing.assert_array_equal(weighted.log_prior, [0, 0])
    np.testing.assert_array_equal(weighted.loss_weight, data.class_weight)
    # Few shots are even already.
    few = TrainingData.from_file(file, **DEFAULTS, class_weight="balanced", shots=2)
    np.testing.assert_array_equal(few.class_weight, [1, 1])


def test_the_parts_of_held_out_images_are_the_folds_or_dealt(tmp_path: Path) -> None:
    data = _data(tmp_path, min_validation=10**6, class_weight={"class 1": 3.0})
    folds = data.folds(cheap=True)
    held_out = data.held_out(folds)
    assert np.bincount(held_out.part).tolist() == [len(fold.held_out) for fold in folds]
    assert set(held_out.weight[held_out.label == 1]) == {3.0}
    single = _data(tmp_path / "one")
    assert np.bincount(single.held_out(single.folds(cheap=True)).part).tolist() == [3, 3, 2, 2, 2]
    assert len(data.held_out(()).label) == 0


def test_folds_hold_each_image_out_once_and_tear_nothing_apart(tmp_path: Path) -> None:
    group = np.where(np.arange(60) < 24, np.arange(60) // 4, -1)
    # Groups stay within a split, as `prepare` sees to.
    split = np.where(np.arange(60) < 24, "train", spread_splits(60))
    data = _data(tmp_path, views=3, min_validation=10**6, group=group, split=split)
    folds = data.folds(cheap=False)
    assert len(folds) == 5
    held_out = np.concatenate([fold.held_out for fold in folds])
    rows = data.everything
    assert sorted(held_out) == sorted(rows[data.view[rows] == 0])
    for fold in folds:
        assert not set(data.unit[fold.train]) & set(data.unit[fold.held_out])
        assert (data.view[fold.held_out] == 0).all()
        assert (data.view[fold.train] > 0).any()
        counts = np.bincount(data.label[fold.held_out], minlength=3)
        assert counts.min() >= 1
    assert not np.isin(held_out, np.flatnonzero(np.isin(data.sha256, _test_digests()))).any()


def _test_digests() -> list[str]:
    return [f"{number:064x}" for number in range(24, 60) if number % 5 == 4]


def test_a_rare_class_makes_fewer_folds(tmp_path: Path) -> None:
    features, labels = blobs(20)
    rare = np.flatnonzero((labels == 2) & (spread_splits(60) == "train"))[3:]
    other = np.flatnonzero((labels == 2) & (spread_splits(60) == "validation"))
    kept = np.setdiff1d(np.arange(60), np.concatenate([rare, other]))
    file = write_project(
        tmp_path, features[kept], labels[kept], split=spread_splits(60)[kept], views=1
    )
    data = TrainingData.from_file(file, **DEFAULTS)
    assert data.selected_by(cheap=False) == "cross-validation"
    assert len(data.folds(cheap=False)) == 3


def test_few_shots_are_nested_and_keep_their_views(tmp_path: Path) -> None:
    data = _data(tmp_path, views=2)
    two, five = data.few(2, seed=3), data.few(5, seed=3)
    assert np.bincount(data.label[two.train_images]).tolist() == [2, 2, 2]
    assert len(two.train) == 3 * len(two.train_images)
    assert set(two.train) < set(five.train)
    assert set(two.train) != set(data.few(2, seed=4).train)
    np.testing.assert_array_equal(two.validation, data.validation)
    assert two.digest != five.digest


def test_class_weights(tmp_path: Path) -> None:
    features, labels = blobs(20)
    kept = (labels != 0) | (np.arange(60) % 2 == 0)
    split = np.full(kept.sum(), "train")
    file = write_project(tmp_path, features[kept], labels[kept], split=split)
    counts = np.bincount(labels[kept])
    balanced = TrainingData.from_file(file, class_weight="balanced", **DEFAULTS)
    np.testing.assert_allclose(balanced.class_weight * counts, counts.sum() / 3)
    named = TrainingData.from_file(file, class_weight={"class 1": 4.0}, **DEFAULTS)
    assert named.class_weight.tolist() == [1, 4, 1]
    assert set(named.weights(named.train_images[named.label[named.train_images] == 1])) == {4.0}


def test_a_weight_for_no_class_is_refused(tmp_path: Path) -> None:
    message = "train.class_weight: no class is called cat; the classes are class 0, class 1"
    with pytest.raises(InputError, match=message):
        _data(tmp_path, class_weight={"cat": 2.0})


def test_one_class_is_refused(tmp_path: Path) -> None:
    features, labels = blobs(10)
    file = write_project(tmp_path, features, np.zeros_like(labels))
    with pytest.raises(InputError, match="at least two classes to tell apart, received class 0"):
        TrainingData.from_file(file, **DEFAULTS)


def test_a_class_without_training_images_is_refused(tmp_path: Path) -> None:
    features, labels = blobs(10)
    split = np.where(labels == 1, "test", "train")
    file = write_project(tmp_path, features, labels, split=split)
    with pytest.raises(InputError, match="no training image of the class class 1: add images"):
        TrainingData.from_file(file, **DEFAULTS)


def test_bytes_are_told_in_round_numbers() -> None:
    assert [describe_bytes(n) for n in (0, 999, 51_200_000, 4e9)] == [
        "0 B", "999 B", "51.2 MB", "4 GB",
    ]  # fmt: skip


def _layout(root: Path, unit: list[int], label: list[int]) -> TrainingData:
    """Images that all train, of which those of one unit number are a group."""
    features = np.random.default_rng(0).normal(size=(len(label), 2)).astype(np.float32)
    file = write_project(
        root, features, np.array(label), split=np.full(len(label), "train"), group=np.array(unit)
    )
    return TrainingData.from_file(file, **DEFAULTS)


@st.composite
def _units(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Unit and label of up to 30 images, all of up to 4 classes among them."""
    n_classes = draw(st.integers(2, 4))
    labels = [*range(n_classes), *draw(st.lists(st.integers(0, n_classes - 1), max_size=26))]
    most = draw(st.sampled_from([1, 3, 12]))
    unit = draw(st.lists(st.integers(0, most), min_size=len(labels), max_size=len(labels)))
    return unit, labels


@given(layout=_units())
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_layout_makes_a_fold_without_a_class_to_learn_or_an_image_to_judge(
    tmp_path: Path, layout: tuple[list[int], list[int]]
) -> None:
    unit, label = layout
    data = _layout(tmp_path, unit, label)
    folds = data.folds(cheap=True)
    held_out = [row for fold in folds for row in fold.held_out]
    assert len(set(held_out)) == len(held_out)
    for fold in folds:
        assert len(fold.held_out)
        assert set(data.label[fold.train]) == set(label)
        assert not set(data.unit[fold.train]) & set(data.unit[fold.held_out])
        assert set(fold.train) | set(fold.held_out) == set(data.everything)
    # A unit that holds all there is of a class must train; any other may be held out.
    own = {one: {unit[i] for i, of in enumerate(label) if of == one} for one in label}
    must = {next(iter(units)) for units in own.values() if len(units) == 1}
    assert bool(folds) == (set(unit) > must)
    assert (data.selected_by(cheap=True) == "default") == (not folds)
    assert not set(np.array(unit)[np.array(held_out, int)]) & must


def test_a_class_of_one_unit_always_trains_and_makes_no_fewer_folds(tmp_path: Path) -> None:
    unit = [-1] * 20 + [7] * 6
    data = _layout(tmp_path, unit, [0, 1] * 10 + [2] * 6)
    folds = data.folds(cheap=False)
    assert len(folds) == 5
    assert {int(data.label[row]) for fold in folds for row in fold.held_out} == {0, 1}
    assert all(np.count_nonzero(data.label[fold.train] == 2) == 6 for fold in folds)


def test_one_unit_per_class_leaves_nothing_to_choose_on(tmp_path: Path) -> None:
    data = _layout(tmp_path, [0, 1, 0, 1], [0, 1, 0, 1])
    assert data.selected_by(cheap=True) == data.selected_by(cheap=False) == "default"
    assert data.folds(cheap=True) == ()


def test_limits_count_units(tmp_path: Path) -> None:
    features, labels = blobs(20)
    split = spread_splits(60)
    # Of each class the validation images are one burst.
    group = np.where(split == "validation", labels, -1)
    file = write_project(tmp_path, features, labels, group=group)
    data = TrainingData.from_file(file, **{**DEFAULTS, "min_validation": 2})
    assert data.selected_by(cheap=False) == "cross-validation"
    data = TrainingData.from_file(file, **{**DEFAULTS, "folds_below": 4})
    assert (data.selected_by(cheap=False), data.selected_by(cheap=True)) == (
        "validation",
        "cross-validation",
    )
    assert not data.validation_stops


def test_few_shots_are_of_different_units_as_far_as_there_are(tmp_path: Path) -> None:
    unit = [0] * 8 + [1, 1, 2, 2] + [3] * 12
    data = _layout(tmp_path, unit, [0] * 12 + [1] * 12)
    for seed in range(10):
        three = data.few(3, seed)
        assert len(set(data.unit[three.train[data.label[three.train] == 0]])) == 3
        assert np.bincount(data.label[three.train]).tolist() == [3, 3]
        assert set(three.train) < set(data.few(5, seed).train)


def test_of_many_images_a_part_of_each_class_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _data(tmp_path)
    monkeypatch.setattr(data_module, "MOST_HELD_OUT", 6)
    (fold,) = data.folds(cheap=True)
    counts = np.bincount(data.label[fold.held_out])
    assert counts.min() >= 2
    assert 6 <= counts.sum() <= 9
    assert set(fold.held_out) < set(data.validation)
    folded = _data(tmp_path / "folded", folds_below=10**6)
    folds = folded.folds(cheap=True)
    assert all(np.array_equal(np.unique(data.label[one.held_out]), [0, 1, 2]) for one in folds)
    assert all(len(one.held_out) <= 4 < len(data.everything) // 5 for one in folds)
    np.testing.assert_array_equal(
        np.unique(np.concatenate([one.train for one in folds])), folded.everything
    )
    some = some_of_each(np.arange(9), np.array([0] * 7 + [1, 2]), 3)
    assert some.tolist() == [0, 4, 7, 8]
