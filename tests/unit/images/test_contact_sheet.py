import hashlib
import unicodedata

import numpy as np
import pytest

from headstart.common.vocabulary import Sizing
from headstart.images.augmentation import views
from headstart.images.contact_sheet import SheetImage, contact_sheet
from headstart.images.options import AugmentOptions
from headstart.images.resizing import resize

RECIPE = AugmentOptions(views=0, seed=0, horizontal_flip=1.0, noise=9.0)
SHA = hashlib.sha256(b"x").hexdigest()


def sheet_of(photo, label="cat/1.jpg", n_views=2, recipe=RECIPE, size=(160, 160)):
    picture = contact_sheet(
        [SheetImage(label, photo(1, 60, 80), SHA)], recipe, n_views, Sizing(size)
    )
    return np.asarray(picture)


def find(sheet, tile):
    """Return where a tile lies: (top, left), or None."""
    height, width = tile.shape[:2]
    for top in range(sheet.shape[0] - height + 1):
        for left in np.flatnonzero((sheet[top] == tile[0, 0]).all(axis=-1)):
            if np.array_equal(sheet[top : top + height, left : left + width], tile):
                return top, int(left)
    return None


def test_shows_the_image_and_its_views_side_by_side(photo):
    sheet = sheet_of(photo)
    image = photo(1, 60, 80)
    sizing = Sizing((160, 160))
    tiles = [resize(image, sizing), *views(image, SHA, [1, 2], RECIPE, sizing)]
    places = [find(sheet, tile) for tile in tiles]
    assert None not in places
    assert len({top for top, _ in places}) == 1
    assert [left for _, left in places] == sorted(left for _, left in places)


def test_without_views_the_images_stand_side_by_side_as_the_backbone_sees_them(photo):
    images = [SheetImage(f"cat/{n}.jpg", photo(n, 60, 80), SHA) for n in range(7)]
    sheet = np.asarray(contact_sheet(images, RECIPE, 0, Sizing((160, 160))))
    places = [find(sheet, resize(image.pixels, Sizing((160, 160)))) for image in images]
    assert None not in places
    assert len({top for top, _ in places[:6]}) == 1
    assert places[6][0] > places[5][0]
    assert places[6][1] == places[0][1]


def test_small_views_are_enlarged_pixel_by_pixel(photo):
    sheet = sheet_of(photo, size=(16, 16))
    enlarged = np.kron(resize(photo(1, 60, 80), Sizing((16, 16))), np.ones((10, 10, 1), np.uint8))
    assert find(sheet, enlarged) is not None


def test_many_views_wrap_and_the_sheet_stays_narrow(photo):
    few, many = sheet_of(photo, n_views=8), sheet_of(photo, n_views=30)
    assert few.shape[1] == many.shape[1] == 1544
    assert many.shape[0] - few.shape[0] == 3 * (160 + 22)


@pytest.mark.parametrize(
    ("label", "same_as"),
    [
        (unicodedata.normalize("NFD", "고양이/사진.jpg"), "고양이/사진.jpg"),
        ("cat/broken\udcff\n.jpg", "cat/broken??.jpg"),
    ],
)
def test_labels_that_cannot_be_drawn_as_they_are(photo, label, same_as):
    np.testing.assert_array_equal(sheet_of(photo, label), sheet_of(photo, same_as))


def test_hangul_is_drawn_rather_than_replaced(photo):
    hangul, unknown = sheet_of(photo, "고양이"), sheet_of(photo, "???")
    other = sheet_of(photo, "강아지")
    assert not np.array_equal(hangul, unknown)
    assert not np.array_equal(hangul, other)


def test_a_long_label_keeps_its_end_inside_the_sheet(photo):
    sheet = sheet_of(photo, "아주 긴 폴더 이름/" * 60 + "12.jpg")
    assert sheet.shape == sheet_of(photo, "short").shape
    assert (sheet[:, -20:] == 255).all()


def test_a_recipe_that_does_nothing_says_so(photo):
    nothing = AugmentOptions(views=4, seed=0)
    seeded = AugmentOptions(views=4, seed=1)
    np.testing.assert_array_equal(sheet_of(photo, recipe=nothing), sheet_of(photo, recipe=seeded))
