import numpy as np
import pytest

from headstart.audit.pictures import beyond, odd_pictures
from headstart.dataset.descriptions import Pictures
from headstart.dataset.duplicates import describe, sharpness
from headstart.dataset.layout import DESCRIPTION_LENGTH, LENGTH

N = 60


@pytest.fixture
def usual():
    """Descriptions of photos of the usual brightness, sharpness and size."""
    rng = np.random.default_rng(0)
    descriptions = np.zeros((N, DESCRIPTION_LENGTH), np.float16)
    descriptions[:, 0] = 1
    descriptions[:, LENGTH] = rng.normal(120, 15, N)
    descriptions[:, LENGTH + 1] = 50
    sharp = np.exp(rng.normal(0, 0.2, N)).astype(np.float32)
    sides = np.full(N, 400) + rng.integers(-50, 50, N)
    return Pictures(descriptions, sharp, []), sides, sides[::-1].copy()


def kinds_of(usual, image: int) -> set[str]:
    return {one.kind for one in odd_pictures(*usual) if one.position == image}


def test_usual_pictures_are_not_odd(usual) -> None:
    assert list(odd_pictures(*usual)) == []


def test_each_kind_is_told(usual) -> None:
    pictures, widths, heights = usual
    pictures.descriptions[0] = 0
    pictures.descriptions[1, LENGTH] = 6
    pictures.sharpness[2] = 0.2
    widths[3], heights[3] = 30, 24
    widths[4], heights[4] = 2400, 300
    widths[5], heights[5] = 300, 2400
    found = {(one.position, one.kind) for one in odd_pictures(*usual)}
    assert found == {
        (0, "blank"), (1, "dark"), (2, "blurred"), (3, "tiny"), (4, "aspect"), (5, "aspect"),
    }  # fmt: skip
    assert all(0 < one.score <= 1 for one in odd_pictures(*usual))


def test_what_could_not_be_read_is_not_called_blank(usual) -> None:
    pictures, widths, heights = usual
    pictures.descriptions[7] = 0
    assert list(odd_pictures(pictures._replace(unusable=[7]), widths, heights)) == []


def test_what_is_usual_in_a_set_is_not_odd(usual) -> None:
    pictures, _, _ = usual
    pictures.descriptions[:, LENGTH] = np.linspace(5, 30, N)
    pictures.sharpness[:] = np.linspace(0.1, 0.3, N)
    assert list(odd_pictures(pictures, np.full(N, 8), np.full(N, 40))) == []


def test_how_far_beyond_the_usual() -> None:
    values = np.array([*np.linspace(-1, 1, 101), 3.0, 30.0, -30.0])
    scores = beyond(values, np.ones(len(values), bool))
    assert (scores[:101] == 0).all()
    assert 0 < scores[102] < 1
    assert scores[103] == 0
    # What is usual is not told by 9.
    assert not beyond(values[-9:], np.ones(9, bool)).any()


def test_a_blurred_picture_is_less_sharp_at_any_size(photo) -> None:
    import cv2

    sharp = photo(0, 256, 320)[..., 0].copy()
    cv2.putText(sharp, "sharp", (30, 150), cv2.FONT_HERSHEY_SIMPLEX, 3, 255, 12)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 12)
    assert sharpness(blurred) < 0.5 * sharpness(sharp)
    half = cv2.resize(sharp, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert sharpness(half) == pytest.approx(sharpness(sharp), rel=0.3)
    assert sharpness(np.full((64, 64), 9, np.uint8)) == 0
    assert not describe(np.full((64, 64), 9, np.uint8)).any()
