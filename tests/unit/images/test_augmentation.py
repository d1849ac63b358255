import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from headstart.common.vocabulary import Sizing
from headstart.images.augmentation import view_token
from headstart.images.augmentation import views as render
from headstart.images.options import AugmentOptions
from headstart.images.resizing import resize as resize_to

SHA = hashlib.sha256(b"an image").hexdigest()
GOLDEN = "bab3903e0853af312a65cc9b1b8846e1c63e3996bd76e016f86b52bd6409e5d6"
EVERYTHING = {
    "horizontal_flip": 0.5,
    "vertical_flip": 0.5,
    "rotation": 30.0,
    "zoom": 0.3,
    "shift": 0.1,
    "shear": 10.0,
    "brightness": 0.3,
    "contrast": 0.3,
    "saturation": 0.5,
    "hue": 40.0,
    "crop": 0.5,
    "cutout": 0.3,
    "noise": 8.0,
}


def views(image, sha256, ks, steps, image_size, **sizing):
    return render(image, sha256, ks, steps, Sizing(image_size, **sizing))


def resize(image, image_size, **sizing):
    return resize_to(image, Sizing(image_size, **sizing))


def recipe(**steps):
    return AugmentOptions(views=0, seed=steps.pop("seed", 0), **steps)


def integer_photo(height=70, width=90):
    """A smooth pattern made of whole numbers alone, the same on every machine."""
    y, x = np.mgrid[:height, :width]
    channels = [(x * 5 + y * 2) % 256, (x * x // 40 + y) % 256, (y * y // 20 + 3 * x) % 256]
    return np.stack(channels, axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def image(photo):
    return photo(3, 80, 100)


def test_a_view_is_the_same_alone_in_any_order_and_in_any_thread(image):
    steps = recipe(**EVERYTHING)
    together = views(image, SHA, [0, 1, 2, 3, 4], steps, (48, 64))
    backwards = views(image, SHA, [4, 3, 2, 1, 0], steps, (48, 64))[::-1]
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda k: views(image, SHA, [k], steps, (48, 64))[0], range(5)))
    for first, second, third in zip(together, backwards, alone, strict=True):
        assert first.shape == (48, 64, 3)
        assert first.dtype == np.uint8
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, third)


def test_view_0_is_the_image_itself(image):
    (view,) = views(image, SHA, [0], recipe(**EVERYTHING), (48, 64), resize="pad")
    np.testing.assert_array_equal(view, resize(image, (48, 64), resize="pad"))


def test_views_content_and_seeds_differ(image):
    steps = recipe(**EVERYTHING)
    rendered = [
        *views(image, SHA, [1, 2, 3], steps, (32, 32)),
        *views(image, hashlib.sha256(b"another").hexdigest(), [1], steps, (32, 32)),
        *views(image, SHA, [1], recipe(**EVERYTHING, seed=1), (32, 32)),
    ]
    assert len({view.tobytes() for view in rendered}) == len(rendered)


def test_the_image_is_not_written_to(image):
    before = image.copy()
    views(image, SHA, [0, 1, 2], recipe(cutout=0.5, noise=5.0), image.shape[:2])
    np.testing.assert_array_equal(image, before)


def digest_of_views():
    digest = hashlib.sha256()
    for view in views(integer_photo(), SHA, [1, 2, 3], recipe(**EVERYTHING), (48, 56)):
        digest.update(view.tobytes())
    return digest.hexdigest()


def test_golden_views():
    """A change of any pixel must come with a new RECIPE_VERSION."""
    assert digest_of_views() == GOLDEN


def test_golden_views_on_a_processor_without_vector_extensions():
    features = "AVX512-SKX,AVX2,FP16,AVX,SSE4.2,SSE4.1"
    environment = {**os.environ, "OPENCV_CPU_DISABLE": features, "OPENCV_IPP": "disabled"}
    program = "import test_augmentation; print(test_augmentation.digest_of_views())"
    finished = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout.strip() == GOLDEN


def test_a_recipe_without_steps_changes_nothing(image):
    for view in views(image, SHA, [1, 2], recipe(), (40, 40)):
        np.testing.assert_array_equal(view, resize(image, (40, 40)))


def test_flips_are_exact_mirrors(image):
    small = resize(image, (40, 50))
    (sideways,) = views(image, SHA, [1], recipe(horizontal_flip=1.0), (40, 50))
    (upside_down,) = views(image, SHA, [1], recipe(vertical_flip=1.0), (40, 50))
    np.testing.assert_array_equal(sideways, small[:, ::-1])
    np.testing.assert_array_equal(upside_down, small[::-1])


def test_flips_come_with_their_probability():
    image = integer_photo(8, 8)
    rendered = views(image, SHA, range(1, 401), recipe(horizontal_flip=0.25), (8, 8))
    flipped = sum(np.array_equal(view, image[:, ::-1]) for view in rendered)
    assert all(
        np.array_equal(view, image) or np.array_equal(view, image[:, ::-1]) for view in rendered
    )
    # 100 expected; three standard deviations of the binomial are 26.
    assert 74 <= flipped <= 126


def test_switching_one_step_leaves_the_others_draws():
    image = integer_photo(60, 60)
    with_flip = views(image, SHA, range(1, 30), recipe(horizontal_flip=1.0, hue=90.0), (60, 60))
    without = views(image, SHA, range(1, 30), recipe(hue=90.0), (60, 60))
    for flipped, straight in zip(with_flip, without, strict=True):
        np.testing.assert_array_equal(flipped, straight[:, ::-1])


def blob_moments(**step):
    """Center, area and axis of an elongated blob in 200 views: (200,) each."""
    image = np.zeros((101, 101, 3), np.uint8)
    cv2.rectangle(image, (30, 44), (70, 56), (255, 255, 255), -1)
    rendered = views(image, SHA, range(1, 201), recipe(**step), (101, 101))
    moments = [cv2.moments(view[..., 0]) for view in rendered]
    area = np.array([m["m00"] / 255 for m in moments])
    x = np.array([m["m10"] / m["m00"] for m in moments])
    y = np.array([m["m01"] / m["m00"] for m in moments])
    axis = [0.5 * np.arctan2(2 * m["mu11"], m["mu20"] - m["mu02"]) for m in moments]
    return area, x, y, np.degrees(axis)


def test_rotation_turns_about_the_center_within_its_range():
    area, x, y, angle = blob_moments(rotation=20.0)
    assert np.abs(angle).max() <= 20.1
    assert angle.min() < -18
    assert angle.max() > 18
    np.testing.assert_allclose(area, 533, rtol=0.02)
    np.testing.assert_allclose(np.hypot(x - 50, y - 50), 0, atol=0.1)


def test_zoom_keeps_the_center_and_its_range():
    area, x, y, angle = blob_moments(zoom=0.2)
    factor = np.sqrt(area / 533)
    assert factor.min() >= 1 / 1.2 - 0.01
    assert factor.max() <= 1.2 + 0.01
    assert factor.min() < 0.86
    assert factor.max() > 1.16
    np.testing.assert_allclose(np.hypot(x - 50, y - 50), 0, atol=0.1)
    np.testing.assert_allclose(angle, 0, atol=0.1)


def test_shift_moves_within_its_range():
    area, x, y, _ = blob_moments(shift=0.1)
    for moved in (x - 50, y - 50):
        assert np.abs(moved).max() <= 10.1 + 0.1
        assert moved.min() < -8.5
        assert moved.max() > 8.5
    np.testing.assert_allclose(area, 533, rtol=0.01)


def test_shear_slants_and_keeps_the_area():
    image = np.zeros((101, 101, 3), np.uint8)
    cv2.rectangle(image, (45, 30), (55, 70), (255, 255, 255), -1)
    slants = []
    for view in views(image, SHA, range(1, 201), recipe(shear=15.0), (101, 101)):
        m = cv2.moments(view[..., 0])
        assert m["m00"] / 255 == pytest.approx(11 * 41, rel=0.01)
        slants.append(np.degrees(np.arctan2(m["mu11"], m["mu02"])))
    assert np.abs(slants).max() <= 15.2
    assert min(slants) < -13
    assert max(slants) > 13


def test_brightness_multiplies_within_its_range():
    image = np.full((16, 16, 3), 100, np.uint8)
    levels = [
        view.mean() for view in views(image, SHA, range(1, 201), recipe(brightness=0.2), (16, 16))
    ]
    assert all(79.5 <= level <= 120.5 for level in levels)
    assert min(levels) < 83
    assert max(levels) > 117


def test_contrast_spreads_about_the_mean_luminance(image):
    small = resize(image, (40, 40))
    spread, mean = small.std(), small.mean()
    spreads = []
    for view in views(small, SHA, range(1, 101), recipe(contrast=0.2), (40, 40)):
        assert abs(view.mean() - mean) < 6
        spreads.append(view.std() / spread)
    assert all(0.79 <= share <= 1.21 for share in spreads)
    assert min(spreads) < 0.85
    assert max(spreads) > 1.1


@pytest.mark.parametrize("step", ["saturation", "hue"])
def test_saturation_and_hue_leave_gray_and_luminance(step, photo):
    gray = np.repeat(np.arange(256, dtype=np.uint8)[np.newaxis, :, np.newaxis], 3, axis=2)
    gray = np.ascontiguousarray(np.repeat(gray, 4, axis=0))
    color = photo(5, 40, 40) // 3 + 80  # far enough from 0 and 255 not to be clipped
    steps = recipe(**{step: {"saturation": 0.5, "hue": 30.0}[step]})
    luma = [0.213, 0.715, 0.072]
    changed = 0
    for k in range(1, 21):
        (view,) = views(gray, SHA, [k], steps, gray.shape[:2])
        assert np.abs(view.astype(int) - gray).max() <= 1
        (view,) = views(color, SHA, [k], steps, (40, 40))
        assert np.abs((view.astype(float) - color) @ luma).max() < 1.5
        changed += np.abs(view.astype(int) - color).max() > 3
    assert changed >= 15


def test_recoloring_is_exact_in_whole_numbers(image):
    """The kernels of OpenCV must agree with exact arithmetic, whatever the processor."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        matrix = np.empty((3, 4))
        matrix[:, :3] = np.rint(rng.normal(0, 1, (3, 3)) * 2**9) / 2**9
        matrix[:, 3] = (2 * np.floor(rng.uniform(-200, 200, 3) * 2**9) + 1) / 2**10
        numerators = np.rint(matrix * 2**10).astype(np.int64)
        exact = (image.astype(np.int64) @ numerators[:, :3].T + numerators[:, 3] + 2**9) >> 10
        np.testing.assert_array_equal(cv2.transform(image, matrix), np.clip(exact, 0, 255))


def test_crop_keeps_its_share_of_the_area():
    """On a picture whose pixels say where they are, the corners tell the crop."""
    height, width = 200, 250
    y, x = np.mgrid[:height, :width]
    image = np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)
    shares, aspects = [], []
    for view in views(image, SHA, range(1, 201), recipe(crop=0.25), (100, 125)):
        crop_width = float(view[50, -1, 0]) - float(view[50, 0, 0])
        crop_height = float(view[-1, 60, 1]) - float(view[0, 60, 1])
        shares.append(crop_width * crop_height / (height * width))
        aspects.append(crop_width / width / (crop_height / height))
    assert all(0.23 <= share <= 1.01 for share in shares)
    assert min(shares) < 0.35
    assert max(shares) > 0.85
    assert all(0.72 <= aspect <= 1.4 for aspect in aspects)
    assert min(aspects) < 0.85
    assert max(aspects) > 1.15


def test_cutout_erases_a_square():
    image = np.full((60, 80, 3), 200, np.uint8)
    sizes = []
    for view in views(image, SHA, range(1, 101), recipe(cutout=0.5), (60, 80)):
        erased = (view == 127).all(axis=-1)
        assert ((view == 200).all(axis=-1) | erased).all()
        rows, columns = np.flatnonzero(erased.any(axis=1)), np.flatnonzero(erased.any(axis=0))
        assert erased.sum() == len(rows) * len(columns)
        sizes.append((len(rows), len(columns)))
    assert max(sizes) == (30, 30)
    assert min(rows for rows, _ in sizes) >= 15


def test_noise_has_its_deviation():
    image = np.full((100, 100, 3), 128, np.uint8)
    first, second = views(image, SHA, [1, 2], recipe(noise=10.0), (100, 100))
    difference = first.astype(float) - 128
    assert difference.std() == pytest.approx(10, rel=0.02)
    assert abs(difference.mean()) < 0.2
    assert np.corrcoef(difference.ravel(), second.astype(float).ravel())[0, 1] < 0.02


def test_the_strongest_recipe_on_one_pixel_and_on_a_strip():
    strongest = recipe(
        zoom=0.99, shift=0.99, shear=45.0, rotation=180.0, crop=0.01, cutout=0.99, noise=128.0
    )
    for shape in ((1, 1, 3), (1, 300, 3), (4096, 1, 3)):
        for view in views(np.full(shape, 50, np.uint8), SHA, [1, 2, 3], strongest, shape[:2]):
            assert view.shape == shape


def test_the_largest_coordinates_fit_the_maps():
    """A wrapped coordinate would show as a seam in a constant-gradient image."""
    strongest = recipe(zoom=0.99, shift=0.99, shear=45.0, rotation=180.0)
    ramp = np.abs(np.arange(4096) - 2048) // 16
    image = np.repeat(np.repeat(ramp.astype(np.uint8)[:, None], 64, 1)[..., None], 3, axis=2)
    for view in views(np.ascontiguousarray(image), SHA, range(1, 9), strongest, (4096, 64)):
        steps = np.abs(np.diff(view[..., 0].astype(int), axis=0))
        assert steps.max() <= 1


def test_token_names_what_decides_a_view():
    steps = recipe(rotation=10.0)
    assert view_token(0, steps) == "0"
    assert view_token(2, steps) == view_token(2, steps.model_copy(update={"views": 7}))
    tokens = {
        view_token(1, steps),
        view_token(2, steps),
        view_token(1, recipe(rotation=11.0)),
        view_token(1, recipe(rotation=10.0, seed=1)),
        *(view_token(1, recipe(**{step: value})) for step, value in EVERYTHING.items()),
    }
    assert len(tokens) == 4 + len(EVERYTHING)
