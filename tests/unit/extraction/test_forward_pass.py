"""Batches that many threads fill: each image once, in its place, whatever happens to others."""

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from joblib import cpu_count

from headstart.common.errors import InputError
from headstart.common.vocabulary import Sizing
from headstart.extraction.forward_pass import BackbonePass, Computed, ImageTask
from headstart.images import augmentation
from headstart.images.decoding import UnusableImage
from headstart.images.options import AugmentOptions

SIZE = (4, 5)
RECIPE = AugmentOptions(views=3, seed=0, horizontal_flip=0.5, brightness=0.5)


class Means:
    """An engine whose feature is an image's mean; some calls take longer than others."""

    feature_shapes = ((1,),)
    versions: dict[str, str] = {}  # noqa: RUF012 - as in the protocol

    def __init__(self, batch_size: int, workers: int) -> None:
        self.batch_size, self.workers = batch_size, workers
        self.shapes: list[tuple[int, ...]] = []
        self.busy = threading.Semaphore(workers)

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        with self.busy:
            self.shapes.append(images.shape)
            threading.Event().wait(0.001 * (len(self.shapes) % 3))
            return (images.mean(axis=(1, 2, 3), dtype=np.float64)[:, np.newaxis].astype("f4"),)


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def jobs_of(n_images: int, views: tuple[int, ...]) -> list[ImageTask]:
    return [
        ImageTask(
            f"{index}.png",
            f"{index:064x}",
            views,
            tuple(range(index * len(views), (index + 1) * len(views))),
            picture(index),
        )
        for index in range(n_images)
    ]


def run(engine: Any, jobs: list[ImageTask], **changes: Any) -> dict[int, float]:
    found: dict[int, float] = {}

    def keep(computed: Computed) -> None:
        rows, (features,) = computed
        assert len(rows) == len(features) == len(set(rows))
        assert not set(rows) & set(found)
        found.update(zip(rows, features[:, 0].tolist(), strict=True))

    tap = SimpleNamespace(backbone="Means", precision="float16")
    wanted = SimpleNamespace(
        image_size=SIZE,
        sizing=Sizing(SIZE),
        taps=(tap,),
        weights=SimpleNamespace(description="none"),
    )
    passed = BackbonePass(
        **{
            "bottleneck": wanted,
            "engine": engine,
            "recipe": None,
            "refuse": lambda job, unusable: None,
            "keep": keep,
            **changes,
        }
    )
    assert sum(passed.run(iter(jobs))) == len(found)
    return found


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 2), (8, 1), (7, 3), (64, 2)])
@pytest.mark.parametrize("n_images", [0, 1, 56, 101])
def test_each_view_gets_its_own_feature(batch_size: int, workers: int, n_images: int) -> None:
    engine = Means(batch_size, workers)
    views = (0, 1, 3)
    found = run(engine, jobs_of(n_images, views), recipe=RECIPE)
    expected = [
        float(view.mean())
        for job in jobs_of(n_images, views)
        for view in augmentation.views(picture(int(job.sha256, 16)), job.sha256, views, RECIPE,
                                       Sizing(SIZE))
    ]  # fmt: skip
    assert [found[row] for row in range(3 * n_images)] == pytest.approx(expected, rel=1e-6)
    assert set(engine.shapes) <= {(batch_size, *SIZE, 3)}
    assert len(engine.shapes) == -(-3 * n_images // batch_size), "a batch was not full"


@pytest.mark.parametrize("batch_size", [1, 8])
def test_an_image_without_pixels_leaves_its_place_empty(batch_size: int) -> None:
    jobs = jobs_of(40, (0,))
    gone = {3, 8, 9, 10, 11, 12, 13, 14, 15, 39}  # all of the second batch of eight, and the last
    for index in gone:
        jobs[index] = jobs[index]._replace(pixels=None)
    refused = []
    engine = Means(batch_size, 2)
    found = run(engine, jobs, refuse=lambda job, unusable: refused.extend(job.rows))
    assert set(refused) == gone
    assert set(found) == set(range(40)) - gone
    assert all(found[row] == pytest.approx(picture(row).mean(), rel=1e-6) for row in found)
    assert len(engine.shapes) == (30 if batch_size == 1 else 4)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_an_image_that_ends_the_pass(batch_size: int) -> None:
    jobs = jobs_of(200, (0,))
    jobs[50] = jobs[50]._replace(pixels=None)

    def refuse(job: ImageTask, unusable: UnusableImage) -> None:
        raise unusable

    with pytest.raises(UnusableImage, match=r"50\.png"):
        run(Means(batch_size, 2), jobs, refuse=refuse)


def test_features_that_are_not_finite_name_their_image() -> None:
    class Overflowing(Means):
        def __call__(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
            (features,) = super().__call__(images)
            features[images[:, 0, 0, 0] == 7] = np.inf
            return (features,)

    jobs = jobs_of(20, (0,))
    for job in jobs:
        # Files have none; these images are in memory.
        job.pixels[0, 0, 0] = 7 if job.path == "13.png" else 8  # type: ignore[index]
    with pytest.raises(InputError, match=r"13\.png: Means gives features that are not finite"):
        run(Overflowing(8, 2), jobs)


def test_memory_of_batches_is_used_again() -> None:
    class Noting(Means):
        places: set[int] = set()  # noqa: RUF012 - filled by every thread

        def __call__(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
            self.places.add(images.ctypes.data)
            return super().__call__(images)

    engine = Noting(8, 2)
    run(engine, jobs_of(2000, (0,)))
    assert len(engine.shapes) == 250
    # Each thread fills one at a time, and one may lie between two threads.
    assert len(engine.places) <= 2 * (cpu_count() + engine.workers)
