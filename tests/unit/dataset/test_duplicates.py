"""Copies are found whatever was done to them, and other pictures are left alone."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from headstart.dataset import duplicates
from headstart.dataset.duplicates import (
    KINDS,
    THUMBNAIL_SIDE,
    Pair,
    Pairs,
    describe,
    near_duplicates,
)
from headstart.dataset.leak_table import write_leaks
from headstart.dataset.manifest import ManifestRow
from headstart.evaluation.leaks import leaked_paths
from headstart.images.decoding import inspect

CATS_DOGS = Path(__file__).parents[4] / "shared" / "data" / "cats_dogs"


def saved(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pairs_of(*pairs: Pair) -> Pairs:
    first, second, kind, similarity = zip(*pairs, strict=True)
    return Pairs(
        np.array(first),
        np.array(second),
        np.array([KINDS.index(name) for name in kind], np.int8),
        np.array(similarity, np.float32),
    )


def describe_all(files: list[bytes]) -> np.ndarray:
    return np.stack([describe(inspect(data, THUMBNAIL_SIDE).thumbnail) for data in files])


CHANGES: dict[str, Callable[[Image.Image], bytes]] = {
    "recompressed": lambda image: saved(image, quality=10),
    "png": lambda image: saved(image, "PNG"),
    "halved": lambda image: saved(image.resize((image.width // 2, image.height // 2)), quality=80),
    "enlarged": lambda image: saved(image.resize((image.width * 2, image.height * 2)), quality=60),
    "square": lambda image: saved(image.resize((224, 224)), quality=75),
    "tiny": lambda image: saved(image.resize((64, 64)), quality=75),
    "grey": lambda image: saved(image.convert("L")),
    "mirrored": lambda image: saved(ImageOps.mirror(image), quality=85),
    "mirrored and more": lambda image: saved(
        ImageOps.mirror(image).resize((image.width // 2, image.height // 2)), quality=40
    ),
}


@pytest.fixture(scope="module")
def originals(photo) -> list[Image.Image]:
    return [Image.fromarray(photo(seed, 150, 200)) for seed in range(60)]


@pytest.fixture(scope="module")
def described(originals) -> np.ndarray:
    return describe_all([saved(image, quality=92) for image in originals])


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_nothing_else(originals, described, change):
    copies = describe_all([CHANGES[change](image) for image in originals])
    pairs = near_duplicates(np.concatenate([described, copies]))
    n = len(originals)
    assert [(pair.first, pair.second) for pair in pairs] == [(i, i + n) for i in range(n)]
    assert {pair.kind for pair in pairs} == {"mirrored" if "mirrored" in change else "near"}
    assert all(0.98 <= pair.similarity <= 1 for pair in pairs)


@pytest.mark.skipif(not CATS_DOGS.is_dir(), reason="shared/data/cats_dogs is not there")
def test_real_photos_raise_no_false_alarm_and_hide_no_copy():
    files = [path.read_bytes() for path in sorted(CATS_DOGS.rglob("*.jpg"))]
    described = describe_all(files)
    alarms = {position for pair in near_duplicates(described) for position in pair[:2]}
    assert len(alarms) <= 0.01 * len(files)
    planted = range(0, len(files), 25)
    for change in CHANGES.values():
        copies = describe_all(
            [change(Image.open(io.BytesIO(files[i])).convert("RGB")) for i in planted]
        )
        pairs = near_duplicates(np.concatenate([described, copies]))
        expected = {(original, len(files) + copy) for copy, original in enumerate(planted)}
        assert expected == {(pair.first, pair.second) for pair in pairs} - alarms


def test_similarity_is_the_correlation_of_the_blurred_pictures(photo):
    one, other = (np.asarray(Image.fromarray(photo(seed, 32, 32)).convert("L")) for seed in (1, 2))
    blend = (0.9 * one + 0.1 * other).astype(np.uint8)
    left, right = describe(one).astype(float)[:255], describe(blend).astype(float)[:255]
    assert np.linalg.norm(left) == pytest.approx(1, abs=1e-3)
    # The photo is smooth, so that hardly anything lies above the frequencies kept.
    assert left @ right == pytest.approx(np.corrcoef(one.ravel(), blend.ravel())[0, 1], abs=0.01)


def test_edges_of_another_brightness_and_blank_pictures_are_no_duplicates():
    edge = np.zeros((64, 64), np.uint8)
    edge[16:] = 240
    dark = np.zeros((64, 64), np.uint8)
    dark[16:] = 70
    blank = np.full((64, 64), 128, np.uint8)
    pictures = [edge, dark, blank, blank, np.full((1, 1), 3, np.uint8)]
    assert not near_duplicates(np.stack([describe(picture) for picture in pictures]))
    assert len(near_duplicates(np.stack([describe(edge), describe(edge)]))) == 1


def test_a_symmetric_picture_is_no_mirror_of_itself(photo):
    half = Image.fromarray(photo(5, 100, 50)).convert("L")
    image = np.concatenate([np.asarray(half), np.asarray(ImageOps.mirror(half))], axis=1)
    described = np.stack([describe(image), describe(np.asarray(half))])
    assert not near_duplicates(described)
    (pair,) = near_duplicates(np.stack([describe(image), describe(image)]))
    assert (pair.first, pair.second) == (0, 1)


def test_few_pictures_are_no_matter(described):
    assert not near_duplicates(described[:0])
    assert not near_duplicates(described[:1])


def _brute_force(descriptions: np.ndarray, similarity: float) -> set[tuple[int, int]]:
    vectors = descriptions[:, :255].astype(np.float32)
    mirrored = vectors * duplicates._MIRROR
    close = np.maximum(vectors @ vectors.T, mirrored @ vectors.T) >= similarity
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(close, 1)), strict=True)}


@pytest.mark.parametrize("compared", [0, duplicates.ALL_COMPARED])
def test_the_search_misses_no_pair_that_comparing_all_would_find(compared, monkeypatch):
    monkeypatch.setattr(duplicates, "ALL_COMPARED", compared)
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(400, 255)) * np.linspace(3, 0.1, 255)
    points = np.repeat(centers, 3, axis=0)
    # Spread so that some pairs of a cluster lie just above the limit and some just below.
    points += rng.normal(size=points.shape) * np.linspace(3, 0.1, 255) * 0.142
    points[::5] *= duplicates._MIRROR
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    descriptions = np.concatenate([points, np.full((len(points), 2), 50.0)], axis=1)
    descriptions = descriptions.astype(np.float16)
    expected = _brute_force(descriptions, 0.98)
    assert 100 < len(expected) < 1100
    pairs = near_duplicates(descriptions)
    found = {(pair.first, pair.second) for pair in pairs}
    assert found <= expected
    # Nearly all of them are at the very limit, where keys may miss one in 10,000.
    assert len(found) >= len(expected) - (0 if compared else 1)


@pytest.mark.parametrize("compared", [0, duplicates.ALL_COMPARED])
def test_a_crowd_of_copies_stays_one_set_and_is_not_compared_in_all_pairs(compared, monkeypatch):
    monkeypatch.setattr(duplicates, "ALL_COMPARED", compared)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1, 255)) + rng.normal(size=(3000, 255)) * 0.02
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    descriptions = np.concatenate([points, np.full((3000, 2), 50.0)], axis=1).astype(np.float16)
    pairs = near_duplicates(descriptions)
    assert 3000 <= len(pairs) <= 3000 * 2 * duplicates.MAX_NEIGHBORS
    sets = duplicates.components(3000, [pair[:2] for pair in pairs])
    assert (sets == 0).all()


@pytest.mark.parametrize("compared", [0, duplicates.ALL_COMPARED])
def test_any_number_of_equal_pictures_is_one_set(compared, monkeypatch):
    monkeypatch.setattr(duplicates, "ALL_COMPARED", compared)
    rng = np.random.default_rng(0)
    points = np.repeat(rng.normal(size=(3, 255)), 100, axis=0)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    descriptions = np.concatenate([points, np.full((300, 2), 50.0)], axis=1).astype(np.float16)
    sets = duplicates.components(300, [pair[:2] for pair in near_duplicates(descriptions)])
    np.testing.assert_array_equal(sets, np.repeat([0, 1, 2], 100))


def test_pairs_can_be_read_one_by_one_in_parts_and_by_kind():
    three = [Pair(0, 2, "exact", 1.0), Pair(1, 4, "exact", 1.0), Pair(1, 3, "mirrored", 0.5)]
    pairs = pairs_of(*three)
    assert list(pairs) == three == [pairs[0], pairs[1], pairs[-1]]
    assert list(pairs[1:]) == three[1:]
    assert list(pairs.where(pairs.exact)) == three[:2]
    np.testing.assert_array_equal(pairs.links, [[0, 2], [1, 4], [1, 3]])


def test_exact_duplicates_are_paired_with_the_first():
    assert list(duplicates.exact_duplicates(["a", "b", "a", "c", "b", "a"])) == [
        Pair(0, 2, "exact", 1.0),
        Pair(1, 4, "exact", 1.0),
        Pair(0, 5, "exact", 1.0),
    ]


def test_sets_are_linked_over_others_and_numbered_in_order():
    sets = duplicates.components(6, [(5, 1), (1, 3), (4, 4)])
    np.testing.assert_array_equal(sets, [0, 1, 2, 1, 3, 1])
    np.testing.assert_array_equal(duplicates.components(3, []), [0, 1, 2])


def test_copies_are_paired_with_the_first_and_the_first_ones_are_compared(described):
    # 0 = 2, and 1, 3 and 4 look alike, of which 1 = 4.
    digests = ["a", "b", "a", "c", "b"]
    descriptions = described[[0, 1, 0, 1, 1]]
    assert list(duplicates.find(digests, descriptions)) == [
        Pair(0, 2, "exact", 1.0),
        Pair(1, 4, "exact", 1.0),
        Pair(1, 3, "near", 1.0),
    ]
    assert not duplicates.find([], described[:0])


def test_leaks_are_the_pairs_across_splits(tmp_path):
    rows = [
        ManifestRow(f"{name}.jpg", digest * 64, "cat", split, "", 1, 1)
        for name, digest, split in (
            ("z", "0", "train"),
            ("b", "0", "test"),
            ("c", "1", "test"),
            ("a", "2", "validation"),
            ("d", "3", "test"),
        )
    ]
    pairs = pairs_of(
        Pair(0, 1, "exact", 1.0), Pair(0, 3, "mirrored", 0.98766), Pair(2, 4, "near", 0.99)
    )
    write_leaks(tmp_path / "leaks.csv", duplicates.leaks(rows, pairs))
    assert (tmp_path / "leaks.csv").read_text().splitlines() == [
        "path,split,label,other_path,other_split,other_label,kind,similarity",
        "a.jpg,validation,cat,b.jpg,test,cat,mirrored,0.9877",
        "a.jpg,validation,cat,z.jpg,train,cat,mirrored,0.9877",
        "b.jpg,test,cat,z.jpg,train,cat,exact,1.0000",
    ]
    write_leaks(tmp_path / "none.csv", [])
    assert len((tmp_path / "none.csv").read_text().splitlines()) == 1


def test_an_image_is_named_once_for_each_split_that_has_a_copy_of_it():
    def row(number: int, digest: str, split: str) -> ManifestRow:
        return ManifestRow(f"{number:03}.jpg", digest * 64, "cat", split, "", 1, 1)

    splits = ["train"] * 100 + ["test"] * 100 + ["validation"]
    rows = [row(number, "0", split) for number, split in enumerate(splits)]
    rows += [row(201, "1", "test"), row(202, "2", "dropped"), row(203, "0", "dropped")]
    near = [Pair(0, 201, "near", 0.99), Pair(0, 202, "near", 0.99)]
    copies = [Pair(0, number, "exact", 1.0) for number in (*range(1, 201), 203)]
    found = duplicates.leaks(rows, pairs_of(*copies, *near))
    assert [leak[0] for leak in found] == sorted(leak[0] for leak in found)
    # 199 lines of 000 or 100 with each of the other split, two of each for validation, and the one
    # that only looks like them: its copies in train and validation.
    lines = {(leak.path, leak.other_path) for leak in found}
    expected = {("000.jpg", f"{i:03}.jpg") for i in range(100, 200)}
    expected |= {(f"{i:03}.jpg", "100.jpg") for i in range(100)}
    expected |= {(f"{i:03}.jpg", "200.jpg") for i in range(200)}
    expected |= {("000.jpg", "201.jpg"), ("200.jpg", "201.jpg")}
    assert lines == expected
    assert len(found) == len(expected) < 450
    assert {leak.kind for leak in found if "201.jpg" in leak} == {"near"}
    assert leaked_paths(found) == {row.path for row in rows if row.split == "test"}
