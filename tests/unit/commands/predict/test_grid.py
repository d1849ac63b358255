"""The picture of predictions, and what stands above it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.commands.predict.grid import MOST, Shown, draw_grid, save
from headstart.commands.predict.labels import KnownLabels
from headstart.commands.predict.review import EvenSample, Review
from headstart.common.errors import InputError
from headstart.inference.classifier import Prediction

RIGHT, WRONG, OPEN = (0, 121, 107), (200, 55, 20), (140, 110, 0)


@pytest.fixture
def blue(tmp_path: Path) -> str:
    path = tmp_path / "파랑.png"
    Image.new("RGB", (300, 100), (0, 0, 255)).save(path)
    return str(path)


def draw(*photos: Shown) -> np.ndarray:
    return np.asarray(draw_grid(photos, "제목", "logistic"))


def count(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((picture == color).all(axis=-1).sum())


def test_right_wrong_and_open_ones_have_their_own_color_and_sign(blue: str) -> None:
    right = draw(Shown(blue, "cat", 0.9, "cat", abstained=False))
    wrong = draw(Shown(blue, "cat", 0.9, "dog", abstained=False))
    strange = draw(Shown(blue, "cat", 0.9, "cat", abstained=True))
    unknown = draw(Shown(blue, "cat", 0.9, None, abstained=False))
    for picture, own in ((right, RIGHT), (wrong, WRONG), (strange, OPEN), (unknown, None)):
        for color in (RIGHT, WRONG, OPEN):
            assert (count(picture, color) > 50) == (color == own)
    # Without colors they still differ: in the sign, not only in the words.
    masks = [(picture == color).all(axis=-1) for picture, color in ((right, RIGHT), (wrong, WRONG))]
    signs = [mask[320:345, 30:55] for mask in masks]
    assert signs[0].any()
    assert (signs[0] != signs[1]).sum() > 10


def test_a_photo_keeps_its_proportions_and_stands_upright(blue: str, tmp_path: Path) -> None:
    rows, columns = np.nonzero(
        (draw(Shown(blue, "a", 1, None, abstained=False)) == (0, 0, 255)).all(-1)
    )
    assert np.ptp(columns) + 1 == 220
    assert np.ptp(rows) + 1 == 73
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", (300, 100), (0, 0, 255)).save(turned, exif=exif)
    picture = draw(Shown(str(turned), "a", 1, None, abstained=False))
    rows, columns = np.nonzero((picture[..., 2] > 200) & (picture[..., 0] < 50))
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (73, 220)


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1)])
def test_photos_of_any_proportion_are_drawn(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (0, 0, 255)).save(tmp_path / "x.png")
    picture = draw(Shown(str(tmp_path / "x.png"), "a", 1, None, abstained=False))
    assert count(picture, (0, 0, 255)) >= 220


def test_long_names_stay_within_their_cell(blue: str) -> None:
    name = "아주 긴 이름 " * 40
    photos = [Shown(blue, name, 0.5, name, abstained=False) for _ in range(3)]
    gaps = draw(*photos)[100:, [255, 265, 495, 505]]
    assert (gaps == 255).all()


def test_the_same_photos_give_the_same_bytes(blue: str, tmp_path: Path) -> None:
    photos = [Shown(blue, "cat", 0.9, "dog", abstained=False)] * 7
    for ending in (".png", ".jpg", ".webp"):
        first, second = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
        for path in (first, second):
            save(draw_grid(photos, "title", "below"), path)
        assert first.read_bytes() == second.read_bytes()
        with Image.open(first) as picture:
            picture.load()
            assert picture.width == 32 + 4 * 240 - 20 + 32


def test_a_photo_that_has_gone_meanwhile_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jpg: no such file"):
        draw(Shown(str(tmp_path / "gone.jpg"), "a", 1, None, abstained=False))


@pytest.mark.parametrize("n", [1, 23, 24, 25, 120, 384, 385, 1000, 12345])
def test_a_sample_is_even_however_many_come(n: int) -> None:
    sample = EvenSample(24)
    for index in range(n):
        sample.add(Shown(str(index), "a", 1, None, abstained=False))
    chosen = [int(one.path) for one in sample.photos()]
    assert len(chosen) == min(n, 24)
    assert chosen[0] == 0
    steps = np.diff([*chosen, n])
    assert np.ptp(steps) <= max(1, 0.2 * n / 24)


def review(tmp_path: Path, *, mistakes: bool = False) -> tuple[Review, list[bool]]:
    """Six photos: two right, one wrong, one abstained, two without a label."""
    one = Review(("cat", "dog"), KnownLabels(("cat", "dog"), None), mistakes=mistakes)
    cat, dog = np.array([0.8, 0.2]), np.array([0.1, 0.9])
    shown = [
        one.add(Prediction(str(tmp_path / path), probabilities, None, abstained))
        for path, probabilities, abstained in [
            ("cat/1.jpg", cat, False), ("dog/1.jpg", dog, False), ("cat/2.jpg", dog, False),
            ("dog/2.jpg", cat, True), ("others/1.jpg", cat, False), ("1.jpg", dog, False),
        ]
    ]  # fmt: skip
    return one, shown


def test_predictions_are_held_against_the_folders_names(tmp_path: Path) -> None:
    one, shown = review(tmp_path)
    assert one.told() == (
        "50.0% right: 2 of 4 labelled photos, 1 wrong, 1 unlike training; 2 without a known label"
    )
    assert shown == [True] * 6
    assert [photo.label for photo in one.photos] == ["cat", "dog", "cat", "dog", None, None]
    assert [photo.right for photo in one.photos] == [True, True, False, None, None, None]


def test_mistakes_are_those_that_are_given_another_class(tmp_path: Path) -> None:
    one, shown = review(tmp_path, mistakes=True)
    assert shown == [False, False, True, False, False, False]
    assert [photo.path for photo in one.photos] == [str(tmp_path / "cat/2.jpg")]
    none = Review(("cat", "dog"), KnownLabels(("cat", "dog"), None), mistakes=True)
    none.add(Prediction(str(tmp_path / "x.jpg"), np.array([0.8, 0.2]), None, abstained=False))
    with pytest.raises(InputError, match=r"--mistakes: expected photos .* \(cat, dog\), received"):
        none.expect_labels()


def test_it_is_told_that_not_all_are_shown(tmp_path: Path) -> None:
    one = review(tmp_path)[0]
    assert one.subtitle("gap on LeNet5") == "gap on LeNet5"
    for index in range(1500):
        one.add(Prediction(f"{index}.jpg", np.array([0.8, 0.2]), None, abstained=False))
    assert one.subtitle("gap on LeNet5") == "gap on LeNet5; 24 of 1,506 photos, evenly spaced"
    assert len(one.photos) == MOST
