"""Splits follow the content of the images, and nothing else."""

import hashlib
import random
from collections import Counter

import pytest

from headstart.common.errors import InputError
from headstart.dataset.splits import Sample, assign


def samples(n: int, label: str = "cat", start: int = 0) -> list[Sample]:
    return [
        Sample(hashlib.sha256(f"{label} {i}".encode()).hexdigest(), label, i)
        for i in range(start, start + n)
    ]


def split(rows: list[Sample], validation: float = 0.2, test: float = 0.2, seed: int = 0):
    return assign(rows, validation=validation, test=test, seed=seed)


def by_content(rows: list[Sample], **options) -> dict[str, str]:
    return {row.sha256: name for row, name in zip(rows, split(rows, **options), strict=True)}


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, {"train": 1}),
        (2, {"train": 1, "test": 1}),
        (3, {"train": 1, "test": 1, "validation": 1}),
        (4, {"train": 2, "test": 1, "validation": 1}),
        (5, {"train": 3, "test": 1, "validation": 1}),
        (10, {"train": 6, "test": 2, "validation": 2}),
        (1000, {"train": 600, "test": 200, "validation": 200}),
    ],
)
def test_every_class_gets_its_shares(n, expected):
    rows = [*samples(n, "cat"), *samples(40, "dog", start=n)]
    assigned = split(rows)
    assert Counter(assigned[:n]) == expected
    assert Counter(assigned[n:]) == {"train": 24, "test": 8, "validation": 8}


@pytest.mark.parametrize("n", range(1, 40))
@pytest.mark.parametrize("shares", [(0.2, 0.2), (0.5, 0.4), (0.0, 0.3), (0.3, 0.0), (0.01, 0.01)])
def test_no_class_is_left_without_training(n, shares):
    validation, test = shares
    counts = Counter(split(samples(n), validation=validation, test=test))
    assert counts["train"] >= 1
    assert (counts["validation"] > 0) == (validation > 0 and n >= (3 if test else 2))
    assert (counts["test"] > 0) == (test > 0 and n >= 2)
    assert counts["train"] >= n * (1 - validation - test) - 2


def test_order_and_other_classes_change_nothing():
    rows = [*samples(50, "cat"), *samples(70, "dog", start=50)]
    before = by_content(rows)
    random.Random(0).shuffle(rows)
    renumbered = [row._replace(bundle=1000 - row.bundle) for row in rows]
    assert by_content(renumbered) == before
    cats = [row for row in rows if row.label == "cat"]
    assert by_content(cats) == {row.sha256: before[row.sha256] for row in cats}
    renamed = [row._replace(label="kitten") for row in cats]
    assert by_content(renamed) == by_content(cats)


def test_another_seed_is_another_split():
    rows = samples(200)
    assert by_content(rows, seed=1) != by_content(rows)
    assert Counter(split(rows, seed=1)) == Counter(split(rows))


def test_adding_images_moves_almost_none_of_the_old():
    shares = []
    for name in ("cat", "dog", "fox", "owl", "bee"):
        old, more = samples(500, name), samples(550, name)
        before, after = by_content(old), by_content(more)
        shares.append(sum(before[key] != after[key] for key in before) / len(before))
    assert max(shares) <= 0.03
    assert sum(shares) / len(shares) <= 0.015


def test_what_belongs_together_shares_a_split():
    rows = [row._replace(bundle=i // 4) for i, row in enumerate(samples(400))]
    assigned = split(rows)
    assert all(len(set(assigned[i : i + 4])) == 1 for i in range(0, 400, 4))
    assert Counter(assigned) == {"train": 240, "test": 80, "validation": 80}


def test_a_large_group_does_not_swallow_a_small_split():
    for seed in range(20):
        rows = [row._replace(bundle=max(0, i - 80)) for i, row in enumerate(samples(100))]
        counts = Counter(split(rows, seed=seed))
        assert counts["train"] >= 81
        assert counts["test"] >= 1
        assert counts["validation"] >= 1


def test_a_group_over_several_classes_leaves_each_class_a_training_image():
    rows = [
        *[row._replace(bundle=i) for i, row in enumerate(samples(10, "cat"))],
        *[row._replace(bundle=i % 2) for i, row in enumerate(samples(4, "dog", start=10))],
    ]
    for seed in range(20):
        assigned = split(rows, seed=seed)
        trained = {row.label for row, name in zip(rows, assigned, strict=True) if name == "train"}
        assert trained == {"cat", "dog"}
        for bundle in range(10):
            assert len({s for r, s in zip(rows, assigned, strict=True) if r.bundle == bundle}) == 1


def given(rows: list[Sample], *names: str | None) -> list[Sample]:
    return [row._replace(split=names[i % len(names)]) for i, row in enumerate(rows)]


def test_given_splits_are_kept():
    rows = given(samples(30), "train", "train", "validation", "test")
    assert split(rows) == [row.split for row in rows]


def test_a_missing_validation_is_cut_from_train():
    rows = given(samples(100), "train", "train", "train", "test")
    assigned = split(rows)
    assert [n for n, r in zip(assigned, rows, strict=True) if r.split == "test"] == ["test"] * 25
    assert Counter(assigned) == {"train": 60, "validation": 15, "test": 25}
    assert Counter(split(given(samples(100), "train"))) == {
        "train": 60,
        "validation": 20,
        "test": 20,
    }
    assert split(rows, validation=0.0) == [row.split for row in rows]


def test_samples_without_a_given_split_fill_the_splits_that_are_not_given():
    rows = given(samples(100), "test", None, None, None)
    assigned = split(rows)
    assert Counter(assigned) == {"train": 60, "validation": 15, "test": 25}
    assert all(n == "test" for n, r in zip(assigned, rows, strict=True) if r.split == "test")


def test_bundles_torn_by_given_splits():
    one, two, three, *others = samples(30)
    rows = [
        one._replace(split="train", bundle=99),
        two._replace(split="test", bundle=99),
        three._replace(bundle=98),
        *others,
    ]
    rows.append(rows[2]._replace(split="test", sha256="f" * 64))
    assigned = split(rows)
    assert assigned[:2] == ["train", "test"]
    assert assigned[2] == assigned[-1] == "test"
    # A training image that could be cut for validation stays where its copy does not follow.
    torn = [row._replace(split=row.split or "train") for row in rows]
    assert split(torn)[:2] == ["train", "test"]


def test_a_class_that_is_given_for_testing_only():
    rows = [*given(samples(10), "train", "test"), *given(samples(3, "dog", start=10), "test")]
    with pytest.raises(InputError, match="class 'dog' has no training image: .* given for test"):
        split(rows)
