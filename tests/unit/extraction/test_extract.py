"""From image files to the feature file: nothing computed twice, nothing lost, no bit different."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.common.errors import InputError
from headstart.common.vocabulary import Sizing
from headstart.extraction import compaction, engines, network_size
from headstart.extraction import store as feature_store
from headstart.extraction.bottleneck import Bottleneck, identify, recover
from headstart.extraction.engines import openvino_models
from headstart.extraction.extract import Counts, Extraction, extract
from headstart.extraction.forward_pass import most_on_their_way
from headstart.extraction.options import ExtractOptions
from headstart.extraction.requests import Request, request_for
from headstart.extraction.store import FeatureStore
from headstart.features.file import Columns, FeatureFile
from headstart.images import augmentation, decoding
from headstart.images.decoding import UnreadableImage
from headstart.images.options import AugmentOptions
from headstart.images.resizing import resize

ROOT = Path(__file__).parents[3]
RECIPE = AugmentOptions(views=1, seed=0, horizontal_flip=0.5, rotation=20, brightness=0.2)


def bottleneck(**changes: object) -> Bottleneck:
    defaults = {
        "backbone": "LeNet5",
        "weights": "random",
        "seed": 0,
        "image_size": 32,
        "resize": "stretch",
        "layer": "auto",
        "pooling": "avg",
        "engine": "openvino",
        "precision": "float32",
        "augment": RECIPE,
    }
    return identify(ExtractOptions(**{**defaults, **changes}), "openvino")


def requests_for(folder: Path, views: int = 0) -> list[Request]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        Request(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), view)
        for path in paths
        for view in range(views + 1)
    ]


def write(extraction: Extraction, requests: list[Request], path: Path) -> bytes:
    n = len(requests)
    columns = Columns(
        label=np.zeros(n, np.int64),
        split=np.full(n, "train"),
        sha256=np.array([request.sha256 for request in requests]),
        view=np.array([request.view for request in requests], np.int32),
        group=np.full(n, -1),
        image=np.arange(n),
    )
    extraction.write(path, ("only",), columns)
    return path.read_bytes()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the converted models lie that all stores of these tests share."""
    folder = tmp_path_factory.mktemp("converted")
    store = FeatureStore(folder)
    engines.load(bottleneck(), store)
    engines.load(bottleneck().tapped([("auto", "avg"), ("s2", "none")]), store)
    return store.root / "models"


@pytest.fixture
def store(tmp_path: Path, models: Path) -> FeatureStore:
    made = FeatureStore(tmp_path / "store")
    made.root.mkdir()
    (made.root / "models").symlink_to(models)
    return made


@pytest.fixture
def photos(tmp_path: Path, photo_folder: Path) -> Path:
    """A copy of the shared photos that a test may change."""
    copy = tmp_path / "photos"
    for source in sorted(photo_folder.rglob("*.jpg")):
        target = copy / source.relative_to(photo_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    return copy


def test_features_are_those_of_each_image(store: FeatureStore, photos: Path) -> None:
    requests = requests_for(photos)
    features = extract(bottleneck(), requests, store=store).array()
    engine = engines.load(bottleneck(), store)
    for request, vector in zip(requests, features, strict=True):
        image = resize(decoding.decode(Path(request.path).read_bytes()), Sizing((32, 32)))
        assert np.array_equal(engine(image[np.newaxis])[0][0], vector)
    assert len(np.unique(features, axis=0)) == len(requests)


def test_computed_once(store: FeatureStore, photos: Path, tmp_path: Path) -> None:
    requests = requests_for(photos)
    cold = extract(bottleneck(), requests, store=store)
    assert cold.counts == Counts(computed=40, reused=0)
    first = write(cold, requests, tmp_path / "first.h5")
    warm = extract(bottleneck(), requests, store=store)
    assert warm.counts == Counts(computed=0, reused=40)
    assert warm.engine is None, "no engine is loaded when nothing is missing"
    assert write(warm, requests, tmp_path / "second.h5") == first

    another = FeatureStore(tmp_path / "another")
    another.root.mkdir()
    (another.root / "models").symlink_to(store.root / "models")
    shuffled = random.Random(0).sample(requests, len(requests))
    assert extract(bottleneck(), shuffled, store=another).counts.computed == 40
    again = extract(bottleneck(), requests, store=another)
    assert write(again, requests, tmp_path / "third.h5") == first


def test_only_new_images_are_computed(
    store: FeatureStore, photos: Path, photo: Callable[[int, int, int], np.ndarray]
) -> None:
    extract(bottleneck(), requests_for(photos), store=store)
    for index in range(4):
        Image.fromarray(photo(1000 + index, 50, 60)).save(photos / f"new{index}.png")
    moved = photos / "elsewhere"
    (photos / "warm").rename(moved)
    assert extract(bottleneck(), requests_for(photos), store=store).counts == Counts(4, 40)


def test_raising_the_number_of_views_computes_the_new_ones(
    store: FeatureStore, photos: Path
) -> None:
    def run(views: int, **changes: object) -> Counts:
        recipe = RECIPE.model_copy(update={"views": views, **changes})
        requests = requests_for(photos, views)
        return extract(bottleneck(), requests, recipe=recipe, store=store).counts

    assert run(1) == Counts(computed=80, reused=0)
    assert run(4) == Counts(computed=120, reused=80)
    assert run(2) == Counts(computed=0, reused=120)
    # Another recipe makes other views; the image itself is the same.
    assert run(1, rotation=5.0) == Counts(computed=40, reused=40)
    assert run(1, seed=1) == Counts(computed=40, reused=40)


def test_views_are_those_of_the_recipe(store: FeatureStore, photos: Path) -> None:
    requests = requests_for(photos, 2)[:6]
    features = extract(bottleneck(), requests, recipe=RECIPE, store=store).array()
    engine = engines.load(bottleneck(), store)
    for request, vector in zip(requests, features, strict=True):
        image = decoding.decode(Path(request.path).read_bytes())
        (view,) = augmentation.views(
            image, request.sha256, [request.view], RECIPE, Sizing((32, 32))
        )
        assert np.array_equal(engine(view[np.newaxis])[0][0], vector)


def test_views_need_a_recipe(store: FeatureStore, photos: Path) -> None:
    with pytest.raises(ValueError, match="view 1 needs a recipe"):
        extract(bottleneck(), requests_for(photos, 1), store=store)


def test_exact_duplicates_are_computed_once(store: FeatureStore, photos: Path) -> None:
    requests = requests_for(photos)[:3]
    twice = [*requests, *requests]
    extraction = extract(bottleneck(), twice, store=store)
    assert extraction.counts == Counts(computed=3, reused=3)
    features = extraction.array()
    assert np.array_equal(features[:3], features[3:])


def test_several_taps_are_one_pass(store: FeatureStore, photos: Path) -> None:
    requests = requests_for(photos)
    taps = bottleneck().tapped([("auto", "avg"), ("s2", "none")])
    both = extract(taps, requests, store=store)
    assert both.counts == Counts(computed=40, reused=0)
    assert [both.feature_shape(tap) for tap in (0, 1)] == [(120,), (14, 14, 6)]
    assert both.array(1).shape == (40, 14, 14, 6)
    assert extract(bottleneck(), requests, store=store).counts.computed == 0
    trunk = bottleneck().tapped([("s2", "none")])
    assert extract(trunk, requests, store=store).counts.computed == 0


def test_a_damaged_shard_is_computed_again(
    store: FeatureStore, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store, "SHARD_ROWS", 16)
    requests = requests_for(photos)
    first = write(extract(bottleneck(), requests, store=store), requests, tmp_path / "a.h5")
    shards = list(store.collection(bottleneck().taps[0]).shards.values())
    assert len(shards) == 3
    data = bytearray(shards[0].path.read_bytes())
    data[shards[0].offset + 40] ^= 8
    shards[0].path.write_bytes(bytes(data))
    os.truncate(shards[1].path, 700)
    extraction = extract(bottleneck(), requests, store=store)
    assert extraction.counts.computed == len(shards[1]), "the truncated one is noticed at once"
    assert write(extraction, requests, tmp_path / "b.h5") == first
    assert len(list(shards[0].path.parent.glob("*.damaged"))) == 2


def test_the_store_may_be_deleted(store: FeatureStore, photos: Path, tmp_path: Path) -> None:
    requests = requests_for(photos)
    extraction = extract(bottleneck(), requests, store=store)
    first = write(extraction, requests, tmp_path / "a.h5")
    for path in store.features.rglob("*.h5"):
        path.unlink()
    # Also behind the back of an extraction that has already looked.
    assert write(extraction, requests, tmp_path / "b.h5") == first


def test_a_changed_image(store: FeatureStore, photos: Path) -> None:
    requests = requests_for(photos)
    changed = Path(requests[7].path)
    changed.write_bytes(Path(requests[30].path).read_bytes())
    message = rf"{changed}: the file has changed: .*{requests[7].sha256}.* run `dvc repro prepare`"
    with pytest.raises(InputError, match=message):
        extract(bottleneck(), requests, store=store)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere")), "broken link to nowhere"),
    ],
)
def test_an_image_that_is_gone(
    store: FeatureStore, photos: Path, damage: Callable[[Path], object], reason: str
) -> None:
    requests = requests_for(photos)
    damage(Path(requests[-1].path))
    message = f"{requests[-1].path}: the image could be read before, but not now: {reason}"
    with pytest.raises(InputError, match=message) as caught:
        extract(bottleneck(), requests, store=store)
    assert not isinstance(caught.value, UnreadableImage)
    # What was computed before is kept.
    assert extract(bottleneck(), requests[:20], store=store).counts.reused > 0


@pytest.mark.parametrize("requested", [0, 3])
def test_nothing_requested_or_nothing_readable_is_no_row(
    store: FeatureStore, photos: Path, tmp_path: Path, requested: int
) -> None:
    good = requests_for(photos)
    for index in range(requested):
        cut = Path(good[index].path).read_bytes()[:-100]
        (tmp_path / f"{index}.jpg").write_bytes(cut)
    bad = [request_for(tmp_path / f"{index}.jpg") for index in range(requested)]
    unreadable: dict[str, str] = {}
    taps = bottleneck().tapped([("auto", "avg"), ("s2", "none")])
    extraction = extract(taps, bad, store=store, unreadable=unreadable)
    assert extraction.array(0).shape == (0, 120)
    assert extraction.array(1).shape[0] == 0
    assert extraction.array(1).ndim == 4
    assert sorted(unreadable) == [request.path for request in bad]
    assert len(extract(taps, good, store=store, previous=extraction).array()) == len(good)


def test_an_image_that_goes_together_with_its_features_is_told(
    store: FeatureStore, photos: Path
) -> None:
    requests = requests_for(photos)
    unreadable: dict[str, str] = {}
    extraction = extract(bottleneck(), requests, store=store, unreadable=unreadable)
    whole = extraction.array()
    for path in [*store.features.rglob("*.h5"), Path(requests[4].path)]:
        path.unlink()
    np.testing.assert_array_equal(extraction.array(), np.delete(whole, 4, axis=0))
    assert unreadable == {requests[4].path: "no such file"}


def test_features_that_are_not_finite(store: FeatureStore, photos: Path, tmp_path: Path) -> None:
    from headstart.catalog import building

    network = building.build(bottleneck().spec, (32, 32), bottleneck().weights)
    weights = network.get_weights()
    weights[0][:] = np.nan
    network.set_weights(weights)
    network.save_weights(tmp_path / "broken.weights.h5")
    broken = bottleneck(weights=str(tmp_path / "broken.weights.h5"))
    with pytest.raises(InputError, match=r"LeNet5 gives features that are not finite.*broken"):
        extract(broken, requests_for(photos), store=store)
    assert not len(store.collection(broken.taps[0]))


def test_the_feature_file_says_what_it_holds(
    store: FeatureStore, photos: Path, tmp_path: Path
) -> None:
    requests = requests_for(photos, 1)
    extraction = extract(bottleneck(), requests, recipe=RECIPE, store=store)
    write(extraction, requests, tmp_path / "a.h5")
    header = FeatureFile.open(tmp_path / "a.h5").header
    assert header.identity == bottleneck().taps[0]
    assert header.augment == RECIPE.model_dump()
    assert header.preprocessing == bottleneck().spec.preprocessing.as_dict()
    assert set(header.versions) >= {"keras", "openvino", "tensorflow", "pillow", "numpy"}
    plain = requests_for(photos)
    write(extract(bottleneck(), plain, store=store), plain, tmp_path / "b.h5")
    assert FeatureFile.open(tmp_path / "b.h5").header.augment is None


def test_an_identity_leads_back_to_its_bottleneck() -> None:
    wanted = bottleneck(seed=7)
    assert recover(wanted.taps[0]) == wanted
    changed = wanted.taps[0].from_dict({**wanted.taps[0].as_dict(), "weights_sha256": "0" * 64})
    with pytest.raises(InputError, match="weights: expected those that the model was trained with"):
        recover(changed)


_SHARD_ROWS = 100

_PROCESS = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from headstart.extraction import compaction, engines, network_size
from headstart.extraction import store as feature_store
from tests.unit.extraction.test_extract import (
    bottleneck, requests_for, write, extract, FeatureStore)
feature_store.SHARD_ROWS = {_SHARD_ROWS}
folder, root, target, tally = map(Path, sys.argv[1:])

class Counting:
    # Notes every image that runs through the engine, one byte each, for the parent to count.
    def __init__(self, engine):
        self.engine, self.file = engine, tally.open("ab", buffering=0)
    def __getattr__(self, name):
        return getattr(self.engine, name)
    def __call__(self, images):
        self.file.write(b"." * len(images))
        return self.engine(images)

requests = requests_for(folder)
print("ready", flush=True)
extraction = extract(
    bottleneck(), requests, store=FeatureStore(root),
    load=lambda *arguments: Counting(engines.load(*arguments)),
)
write(extraction, requests, target)
print(extraction.counts.computed)
"""


def _start(*arguments: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PROCESS, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 small pictures."""
    folder = tmp_path_factory.mktemp("many")
    for index in range(600):
        noise = np.random.default_rng(index).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{index:04}.png", compress_level=0)
    return folder


def _undisturbed(many: Path, models: Path, folder: Path) -> bytes:
    store = FeatureStore(folder / "undisturbed")
    store.root.mkdir()
    (store.root / "models").symlink_to(models)
    requests = requests_for(many)
    return write(extract(bottleneck(), requests, store=store), requests, folder / "expected.h5")


def test_features_kept_as_halves(store: FeatureStore, photos: Path, tmp_path: Path) -> None:
    """They are rounded wherever they come from, computed now or long ago, and nothing else is."""
    requests = requests_for(photos)
    whole = extract(bottleneck(), requests, store=store).array()
    models = set((store.root / "models").iterdir())
    wanted = bottleneck(store_dtype="float16")
    first = extract(wanted, requests, store=store)
    assert first.counts == Counts(computed=40, reused=0)
    expected = whole.astype(np.float16)
    assert np.array_equal(first.array(), expected)
    again = extract(wanted, requests, store=store)
    assert again.counts == Counts(computed=0, reused=40)
    write(again, requests, tmp_path / "features.h5")
    file = FeatureFile.open(tmp_path / "features.h5")
    assert file.header.identity == wanted.taps[0]
    assert np.asarray(file.features).dtype == np.float32
    assert np.array_equal(np.asarray(file.features), expected)
    assert recover(file.header.identity) == wanted
    assert set((store.root / "models").iterdir()) == models, "the converted network is the same"


def test_many_small_shards_are_merged_where_they_were_computed(
    store: FeatureStore, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = requests_for(photos)
    undisturbed = FeatureStore(tmp_path / "undisturbed")
    undisturbed.root.mkdir()
    (undisturbed.root / "models").symlink_to(store.root / "models")
    expected = write(
        extract(bottleneck(), requests, store=undisturbed), requests, tmp_path / "expected.h5"
    )
    monkeypatch.setattr(feature_store, "SHARD_ROWS", 8)
    monkeypatch.setattr(compaction, "_MANY", 3)
    extraction = extract(bottleneck(), requests, store=store)
    assert len(store.collection(bottleneck().taps[0]).shards) == 1
    assert write(extraction, requests, tmp_path / "features.h5") == expected


def test_sigkill_costs_one_shard_at_most_and_no_bit(
    store: FeatureStore, many: Path, models: Path, tmp_path: Path
) -> None:
    expected = _undisturbed(many, models, tmp_path)
    tally, target = tmp_path / "tally", tmp_path / "features.h5"
    tally.touch()
    waits = random.Random(0)
    kills = 0
    while kills < 5:
        before = tally.stat().st_size
        process = _start(many, store.root, target, tally)
        assert process.stdout is not None
        process.stdout.readline()
        # At any moment from before the first image on.
        limit, patience = before + waits.randrange(100), time.monotonic() + 60
        while tally.stat().st_size < limit and time.monotonic() < patience:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        kills += 1
        kept = len(store.collection(bottleneck().taps[0]))
        if kept == 600:
            break
        assert not target.exists()
    kept = len(store.collection(bottleneck().taps[0]))
    done = tally.stat().st_size
    process = _start(many, store.root, target, tally)
    output, _ = process.communicate(timeout=60)
    assert int(output.split()[-1]) == tally.stat().st_size - done == 600 - kept
    # One open shard per kill, and what was on its way to it.
    on_its_way = most_on_their_way(engines.load(bottleneck(), store))
    assert done - kept <= kills * (_SHARD_ROWS + on_its_way)
    assert target.read_bytes() == expected


def test_parallel_processes_share_the_store(
    store: FeatureStore, many: Path, models: Path, tmp_path: Path
) -> None:
    expected = _undisturbed(many, models, tmp_path)
    targets = [tmp_path / f"{index}.h5" for index in range(2)]
    processes = [_start(many, store.root, target, tmp_path / "tally") for target in targets]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert [target.read_bytes() == expected for target in targets] == [True, True]


def test_an_interrupted_run_keeps_what_it_has(store: FeatureStore, many: Path) -> None:
    """Ctrl-C: what was computed is written, but for what was just under way."""
    requests = requests_for(many)

    class Interrupting(list[Request]):
        def __getitem__(self, index: Any) -> Any:
            if index == 500:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        extract(bottleneck(), Interrupting(requests), store=store)
    assert 400 <= extract(bottleneck(), requests, store=store).counts.reused <= 500


def test_a_conversion_leaves_the_size_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tap,) = bottleneck().taps
    expected = network_size.network_size(tap, FeatureStore(tmp_path / "another"))
    openvino_models.obtain(bottleneck(), FeatureStore(tmp_path / "one"))
    monkeypatch.setattr(network_size, "size_up_to", None)  # it is not counted again
    assert network_size.network_size(tap, FeatureStore(tmp_path / "one")) == expected
