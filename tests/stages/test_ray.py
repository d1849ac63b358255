"""Features from the nodes of a Ray cluster: the bytes of one machine, whoever dies meanwhile."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from headstart.commands import cli
from headstart.common import places
from headstart.common.errors import InputError
from headstart.dataset.manifest import read_manifest
from headstart.extraction.extract import extract
from headstart.extraction.on_ray import driver, worker
from headstart.extraction.on_ray.driver import Fleet
from headstart.extraction.requests import Request, request_for
from headstart.extraction.store import FeatureStore
from headstart.features.file import FeatureFile
from headstart.finetuning.plan import Step
from headstart.finetuning.trunk import cache_trunk
from pipeline import extract as stage
from tests import ray_engines
from tests.unit.extraction.test_extract import RECIPE, bottleneck, requests_for, write

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MEMORY = 80 * 2**20
IMAGES = 300
SLICE = 16


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Any]:
    """Two nodes of one CPU each, on this machine; the second may be removed."""
    ray = pytest.importorskip("ray", reason="needs the extra: headstart[ray]")
    from ray.cluster_utils import Cluster

    another = tmp_path_factory.mktemp("another")
    (another / "models").symlink_to(models)
    with _as_a_node(another):
        made = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False,
                # A lost node is noticed in two seconds rather than half a minute.
                "_system_config": {
                    "health_check_initial_delay_ms": 500,
                    "health_check_period_ms": 500,
                    "health_check_timeout_ms": 2000,
                    "health_check_failure_threshold": 3,
                },
            },
        )  # fmt: skip
        made.add_node(num_cpus=1, object_store_memory=MEMORY)
    yield made
    ray.shutdown()
    made.shutdown()


@contextmanager
def _as_a_node(another: Path) -> Iterator[None]:
    """Set the environment of nodes that are started: none names a store of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HEADSTART_CACHE")
        patch.setenv("ANOTHER_STORE", str(another))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield


@pytest.fixture(autouse=True)
def _address(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.setattr(driver, "LEAST", SLICE)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small pictures."""
    folder = tmp_path_factory.mktemp("many")
    for index in range(IMAGES):
        noise = np.random.default_rng(index).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{index:04}.png", compress_level=0)
    return folder


@pytest.fixture(scope="module")
def models() -> Path:
    """Where the converted models lie that all stores of these tests share."""
    folder = FeatureStore().root / "models"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def store(tmp_path: Path, models: Path) -> FeatureStore:
    """An empty one, but for converted models that are kept from test to test."""
    return _new_store(tmp_path / "store", models)


def _new_store(root: Path, models: Path) -> FeatureStore:
    root.mkdir()
    (root / "models").symlink_to(models)
    return FeatureStore(root)


def _read(store: FeatureStore, requests: list[Request], target: Path) -> bytes:
    """Write all features from the store, which must have them."""
    done = extract(bottleneck(), requests, recipe=RECIPE, store=store)
    assert done.counts.computed == 0
    return write(done, requests, target)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_workers_die_and_nodes_come_and_go(
    cluster: Any, many: Path, store: FeatureStore, models: Path, tmp_path: Path
) -> None:
    requests = requests_for(many, 1)
    tally = tmp_path / "tally"
    killed: set[int] = set()

    def kill() -> None:
        living: list[int] = []
        while not living:
            started = (tmp_path / "workers").read_text().split()
            living = [int(pid) for pid in started if int(pid) not in killed and _lives(int(pid))]
        chosen = random.Random(len(killed)).choice(living)
        killed.add(chosen)
        os.kill(chosen, signal.SIGKILL)

    def exchange() -> None:
        (node,) = cluster.worker_nodes
        cluster.remove_node(node, allow_graceful=False)
        with _as_a_node(tmp_path / "unused"):
            cluster.add_node(num_cpus=1, object_store_memory=MEMORY)

    with (
        ThreadPoolExecutor(1) as pool,
        Fleet(bottleneck(), RECIPE, store, recover=ray_engines.recover_slowly) as fleet,
    ):
        filling = pool.submit(fleet.fill, requests)
        for count, act in ((40, kill), (130, kill), (220, exchange), (400, kill)):
            while _size(tally) < count:
                assert not filling.done(), filling.result()
                time.sleep(0.002)
            act()
        filling.result()
    twice = _size(tally) - len(requests)
    print(f"{twice} of {len(requests)} computed twice over four losses")
    # What a worker has of the slice that it is at, with the views of its images.
    assert twice <= 4 * 2 * SLICE

    another = _new_store(tmp_path / "another", models)
    local = extract(bottleneck(), requests, recipe=RECIPE, store=another)
    expected = write(local, requests, tmp_path / "local.h5")
    assert _read(store, requests, tmp_path / "ray.h5") == expected


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_slice_that_kills_its_workers_ends_the_run(many: Path, store: FeatureStore) -> None:
    requests = requests_for(many)[:40]
    black = store.root.parent / "black.png"
    Image.new("RGB", (24, 24)).save(black)
    requests[20] = request_for(black)
    with (
        Fleet(bottleneck(), None, store, recover=ray_engines.recover_slowly) as fleet,
        pytest.raises(InputError, match="3 workers were killed while they computed this") as told,
    ):
        fleet.fill(requests)
    assert str(told.value).startswith(f"{requests[16].path}: ")


def test_workers_that_do_not_live_end_the_run(many: Path, store: FeatureStore) -> None:
    with (
        Fleet(bottleneck(), None, store, recover=ray_engines.recover_never) as fleet,
        pytest.raises(InputError, match="3 workers were started and none lived"),
    ):
        fleet.fill(requests_for(many)[:3])


def test_an_unreadable_image_is_named_with_its_node(many: Path, store: FeatureStore) -> None:
    requests = requests_for(many)[:40]
    requests[9] = Request(str(many / "gone.png"), "0" * 64)
    message = r"gone.png: the image could be read before, but not now: .* \(on node \d"
    with (
        Fleet(bottleneck(), None, store) as fleet,
        pytest.raises(InputError, match=message),
    ):
        fleet.fill(requests)
    # Several taps come from one pass; who is lenient goes on without the image.
    both = bottleneck().tapped([("auto", "avg"), ("s2", "none")])
    with Fleet(both, None, store, lenient=True) as fleet:
        fleet.fill(requests)
    readable = [request for request in requests if request.path != requests[9].path]
    assert extract(both, readable, store=store).counts.computed == 0


def test_other_code_on_a_node(
    many: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "code_digest", lambda: "0" * 64)
    with (
        Fleet(bottleneck(), None, store) as fleet,
        pytest.raises(InputError, match=r"the installed Headstart is another .* \(on node "),
    ):
        fleet.fill(requests_for(many)[:3])


def test_a_store_that_is_not_shared(
    many: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "VISIBLE", 0.0)
    with (
        Fleet(bottleneck(), None, store, recover=ray_engines.recover_elsewhere) as fleet,
        pytest.raises(InputError, match="of 3 vectors that were computed 3 are not in it"),
    ):
        fleet.fill(requests_for(many)[:3])


def test_no_cluster_at_the_address(
    many: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with (
        Fleet(bottleneck(), None, store) as fleet,
        pytest.raises(InputError, match="RAY_ADDRESS: expected the address of a running Ray"),
    ):
        fleet.fill(requests_for(many)[:3])


@pytest.fixture
def project(trained: Path, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose stages have run, and an empty store."""
    copy = tmp_path / "project"
    shutil.copytree(trained, copy)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("HEADSTART_CACHE", str(_new_store(tmp_path / "own", models).root))
    return copy


def test_the_stage_on_ray(project: Path) -> None:
    expected = places.FEATURES.read_bytes()
    counts = json.loads(places.EXTRACT_METRICS.read_text())
    places.FEATURES.unlink()
    params = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))
    params["extract"]["on"] = "ray"
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(params, file)
    before = signal.getsignal(signal.SIGTERM)
    stage.main()
    # Its photos are named relative to the project's folder.
    assert not Path(read_manifest(places.MANIFEST).rows[0].path).is_absolute()
    assert places.FEATURES.read_bytes() == expected
    assert json.loads(places.EXTRACT_METRICS.read_text()) == counts | {"computed": 40, "reused": 0}
    assert signal.getsignal(signal.SIGTERM) is before


def test_predictions_on_ray(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "photos" / "broken.jpg").write_bytes(b"no image")
    arguments = ["predict", "photos", "--format", "csv"]
    assert cli.main([*arguments, "--on", "ray"]) == 1
    on_ray = capsys.readouterr()
    (identity,) = (FeatureFile.open(places.FEATURES).header.identity,)
    assert len(FeatureStore().collection(identity)) == 40
    shutil.rmtree(FeatureStore().features)
    assert cli.main(arguments) == 1
    local = capsys.readouterr()
    assert on_ray.out == local.out
    assert "broken.jpg" in on_ray.err
    assert on_ray.err == local.err


def test_the_trunk_of_fine_tuning_on_ray(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, manifest = FeatureFile.open(places.FEATURES), read_manifest(places.MANIFEST)
    steps = [Step("s2", (14, 14, 6), 1)]
    network, _ = worker.recover(file.header.identity)
    Path("trunk").mkdir()
    cached = cache_trunk(steps, network, file, manifest, FeatureStore(), Path("trunk"), "ray")
    trunk = network.tapped([("s2", network.spec.whole)])
    assert len(FeatureStore().collection(trunk.taps[0])) == 40
    assert list(cached) == ["s2"]
