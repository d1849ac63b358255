"""Several networks over the same images: each image read once, the same features as alone."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from headstart.common.errors import InputError
from headstart.extraction import together
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.extract import extract
from headstart.extraction.options import ExtractOptions
from headstart.extraction.requests import Request
from headstart.extraction.store import FeatureStore
from headstart.extraction.together import Pass, extract_together
from headstart.images.options import AugmentOptions

RECIPE = AugmentOptions(views=2, seed=0, horizontal_flip=0.5, rotation=20, brightness=0.2)
SIZES = ((40, 60), (50, 30))


class MeanColor:
    """An engine whose features can be told."""

    batch_size = 1
    workers = 2
    feature_shapes = ((3,),)
    versions: ClassVar = {"numpy": "1"}

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        return (images.mean(axis=(1, 2)).astype(np.float32),)


def load(bottleneck: Bottleneck, store: FeatureStore) -> MeanColor:
    if bottleneck.taps[0].layer == "s2":
        raise InputError("no such cut")
    return MeanColor()


def network(size: int, layer: str = "auto") -> Bottleneck:
    options = ExtractOptions(
        backbone="LeNet5", weights="random", seed=0, image_size=size, resize="stretch",
        layer=layer, pooling="avg", engine="openvino", precision="float32", augment=RECIPE,
    )  # fmt: skip
    return identify(options, "openvino")


@pytest.fixture
def requests(tmp_path: Path) -> list[Request]:
    """Six images, one of which lies there twice."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(6):
        path = tmp_path / f"{index}.png"
        pixels = rng.integers(0, 256, (*SIZES[index % 2], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        found.append(Request(str(path), hashlib.sha256(path.read_bytes()).hexdigest()))
    return [*found, found[0]._replace(path=str(tmp_path / "0.png"))]


@pytest.fixture
def sizes(requests: list[Request]) -> dict[str, tuple[int, int]]:
    return {request.sha256: SIZES[index % 2] for index, request in enumerate(requests[:6])}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image was read for all networks together."""
    counts: Counter[str] = Counter()
    read = together.read_checked

    def counting(path: Path, sha256: str) -> np.ndarray:
        counts[Path(path).name] += 1
        return read(path, sha256)

    monkeypatch.setattr(together, "read_checked", counting)
    return counts


@pytest.mark.parametrize("chunk", [1, 20_000, 10**9])
def test_each_image_is_read_once_and_the_features_are_those_of_a_pass_alone(
    tmp_path: Path,
    requests: list[Request],
    sizes: dict[str, tuple[int, int]],
    reads: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
    chunk: int,
) -> None:
    monkeypatch.setattr(together, "CHUNK_BYTES", chunk)
    views = [request._replace(view=view) for request in requests for view in range(3)]
    passes = [
        Pass(network(32), requests, None),
        Pass(network(48), views, RECIPE),
        # The same network once more, on other images.
        Pass(network(32), requests[2:4], None),
    ]
    store = FeatureStore(tmp_path / "store")
    costs = extract_together(passes, sizes, store=store, load=load)
    assert [cost.computed for cost in costs] == [6, 18, 0]
    assert costs[1].seconds > 0
    assert set(reads.values()) == {1}
    assert len(reads) == 6
    alone = FeatureStore(tmp_path / "alone")
    for one in passes:
        found = extract(one.bottleneck, one.requests, recipe=one.recipe, store=store, load=load)
        assert found.counts.computed == 0
        expected = extract(one.bottleneck, one.requests, recipe=one.recipe, store=alone, load=load)
        assert np.array_equal(found.array(), expected.array())


def test_one_network_reads_for_itself_and_none_reads_nothing(
    tmp_path: Path,
    requests: list[Request],
    sizes: dict[str, tuple[int, int]],
    reads: Counter[str],
) -> None:
    store = FeatureStore(tmp_path / "store")
    passes = [Pass(network(32), requests, None), Pass(network(48), requests, None)]
    extract_together(passes[:1], sizes, store=store, load=load)
    costs = extract_together(passes, sizes, store=store, load=load)
    assert [cost.computed for cost in costs] == [0, 6]
    assert not reads
    costs = extract_together(passes, sizes, store=store, load=load)
    assert [cost.computed for cost in costs] == [0, 0]


def test_what_fails_is_left_to_who_asks_for_it_alone(
    tmp_path: Path, requests: list[Request], sizes: dict[str, tuple[int, int]]
) -> None:
    Path(requests[1].path).write_bytes(b"changed")
    store = FeatureStore(tmp_path / "store")
    broken = network(32, layer="s2")
    passes = [Pass(one, requests, None) for one in (broken, network(32), network(48))]
    extract_together(passes, sizes, store=store, load=load)
    for one, message in ((broken, "no such cut"), (network(48), "the file has changed")):
        with pytest.raises(InputError, match=message):
            extract(one, requests, store=store, load=load)
    sound = [request for request in requests if request != requests[1]]
    assert extract(network(48), sound, store=store, load=load).counts.computed == 0
