"""Images of any shape come to the size that a backbone takes."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from headstart.common.vocabulary import Sizing
from headstart.images.resizing import resize

Photo = Callable[..., np.ndarray]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_stretching_is_antialiased_as_in_pillow(photo: Photo, interpolation: str):
    picture = photo(0, 60, 80)
    resized = resize(picture, Sizing((20, 31), interpolation=interpolation))
    pillow = Image.fromarray(picture).resize((31, 20), Image.Resampling[interpolation.upper()])
    assert np.abs(resized.astype(int) - np.asarray(pillow)).max() <= 2


def test_cropping_takes_the_middle_and_padding_keeps_all():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 200
    assert (resize(image, Sizing((10, 10), "crop")) == 200).all()
    padded = resize(image, Sizing((30, 30), "pad"))
    assert (padded[:10] == 0).all()
    assert (padded[20:] == 0).all()
    np.testing.assert_array_equal(padded[10:20], image)
    for way in ("crop", "pad"):
        tall = resize(np.swapaxes(image, 0, 1), Sizing((20, 30), way))
        assert tall.shape == (20, 30, 3)


@pytest.mark.parametrize("way", ["stretch", "crop", "pad"])
def test_any_image_comes_to_any_size(way):
    for shape in ((1, 1), (1, 500), (500, 1), (7, 3)):
        for size in ((1, 1), (9, 5), (224, 224)):
            resized = resize(np.full((*shape, 3), 99, np.uint8), Sizing(size, way))
            assert resized.shape == (*size, 3)
            assert resized.max() == 99
