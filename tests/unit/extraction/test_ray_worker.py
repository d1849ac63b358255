"""What a worker answers, in this process: no cluster is needed to refuse."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.common.errors import InputError
from headstart.extraction.extract import extract
from headstart.extraction.on_ray import driver, worker
from headstart.extraction.on_ray.driver import Fleet
from headstart.extraction.on_ray.worker import Answer, Order, Worker, code_digest
from headstart.extraction.store import FeatureStore
from headstart.features.identity import FeatureIdentity
from tests.unit.extraction.test_extract import RECIPE, bottleneck, requests_for

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _as_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADSTART_CACHE")
    for name in ("LOKY_MAX_CPU_COUNT", "TF_NUM_INTRAOP_THREADS"):
        # Noted, so that it is put back.
        monkeypatch.setenv(name, "1")


def order(folder: Path, **changes: Any) -> str:
    values = {
        "code": code_digest(),
        "taps": [tap.as_dict() for tap in bottleneck().taps],
        "recipe": RECIPE,
        "cache": str(folder / "store"),
        "project": str(folder),
        "lenient": False,
    }
    return Order(**{**values, **changes}).model_dump_json()


def started(folder: Path, **changes: Any) -> Worker:
    made = Worker(order(folder, **changes), worker.recover)
    assert made.start() == Answer("done")
    return made


def slice_of(folder: Path, views: int = 0) -> list[tuple[str, str, int]]:
    return [(one.path, one.sha256, one.view) for one in requests_for(folder, views)]


def test_a_slice_is_in_the_store_when_it_is_answered(tmp_path: Path, photo_folder: Path) -> None:
    made = started(tmp_path)
    everything = slice_of(photo_folder, 1)
    assert made.compute(everything[:30]) == Answer("done")
    assert len(FeatureStore(tmp_path / "store").collection(bottleneck().taps[0])) == 30
    assert made.compute(everything) == Answer("done")
    again = extract(
        bottleneck(),
        requests_for(photo_folder, 1),
        recipe=RECIPE,
        store=FeatureStore(tmp_path / "store"),
    )
    assert again.counts.computed == 0


def test_a_workers_own_store_goes_before_the_drivers(
    tmp_path: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "own"))
    assert started(tmp_path).compute(slice_of(photo_folder)[:3]) == Answer("done")
    assert (tmp_path / "own" / "features").is_dir()
    assert not (tmp_path / "store").exists()


def test_other_code_is_refused(tmp_path: Path) -> None:
    answer = Worker(order(tmp_path, code="0" * 64), worker.recover).start()
    assert answer.kind == "refused"
    assert "the installed Headstart is another than that of the machine that drives" in answer.text


def test_another_engine_is_refused(tmp_path: Path) -> None:
    (tap,) = bottleneck().taps
    gpu = {**tap.as_dict(), "engine": "tensorflow-gpu"}
    answer = Worker(order(tmp_path, taps=[gpu]), worker.recover).start()
    assert answer.kind == "refused"
    assert "expected tensorflow-gpu in float32, as the machine that drives" in answer.text


def test_other_weights_are_refused(tmp_path: Path) -> None:
    (tap,) = bottleneck().taps
    other = {**tap.as_dict(), "weights_sha256": "0" * 64}
    answer = Worker(order(tmp_path, taps=[other]), worker.recover).start()
    assert answer.kind == "refused"
    assert answer.text.startswith("weights: expected those that the model was trained with")


def test_an_image_that_is_gone(tmp_path: Path, photo_folder: Path) -> None:
    requests = slice_of(photo_folder)[:3]
    gone = ("gone.jpg", "0" * 64, 0)
    answer = started(tmp_path).compute([*requests, gone])
    assert answer.kind == "refused"
    assert answer.text.startswith("gone.jpg: the image could be read before, but not now: no such")
    answer = started(tmp_path, lenient=True).compute([*requests, gone])
    assert (answer.kind, answer.unreadable) == ("done", ("gone.jpg",))
    assert len(FeatureStore(tmp_path / "store").collection(bottleneck().taps[0])) == 3


def test_what_the_system_refuses_and_what_is_a_defect(tmp_path: Path) -> None:
    def full(identity: FeatureIdentity) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full")

    def wrong(identity: FeatureIdentity) -> Any:
        raise KeyError("a defect")

    answer = Worker(order(tmp_path), full).start()
    assert answer.kind == "refused"
    assert answer.text.startswith("/full: No space left on device; make room")
    answer = Worker(order(tmp_path), wrong).start()
    assert answer.kind == "failed"
    assert "KeyError: 'a defect'" in answer.text


_FEATURES = """
import hashlib, sys
import numpy as np
from dataclasses import replace
from pathlib import Path
from headstart.common.threads import limit_threads
limit_threads(int(sys.argv[1]))
import joblib
assert joblib.cpu_count() <= int(sys.argv[1])
from headstart.extraction import engines
from headstart.extraction.store import FeatureStore
from tests.unit.extraction.test_extract import bottleneck
made = replace(bottleneck(), taps=(replace(bottleneck().taps[0], engine=sys.argv[2]),))
engine = engines.load(made, FeatureStore(Path(sys.argv[3])))
images = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
size = engine.batch_size
rows = [engine(images[start : start + size])[0] for start in range(0, 32, size)]
print(hashlib.sha256(np.concatenate(rows).tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_threads_decide_no_bit(engine: str, tmp_path: Path) -> None:
    """Each stream of OpenVINO has one thread; TensorFlow's share a batch by its images."""
    found = {
        subprocess.run(
            [sys.executable, "-c", _FEATURES, threads, engine, str(tmp_path / "store")],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout
        for threads in ("1", "3")
    }  # fmt: skip
    assert len(found) == 1


def test_without_an_address_or_without_ray(
    tmp_path: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path / "store")
    monkeypatch.setattr(driver, "find_spec", lambda name: None)
    with (
        Fleet(bottleneck(), None, store) as fleet,
        pytest.raises(InputError, match=r"not installed; run `pip install 'headstart\[ray\]'`"),
    ):
        fleet.fill(requests_for(photo_folder))
    monkeypatch.undo()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    pytest.importorskip("ray", reason="needs the extra: headstart[ray]")
    with (
        Fleet(bottleneck(), None, store) as fleet,
        pytest.raises(InputError, match="on: ray needs a cluster, and RAY_ADDRESS is not set"),
    ):
        fleet.fill(requests_for(photo_folder))
    # Where nothing lacks, no cluster is needed.
    extract(bottleneck(), requests_for(photo_folder), store=store)
    assert driver.fill(bottleneck(), requests_for(photo_folder), None, store) == 0


def test_slices_keep_an_images_views_together(photo_folder: Path) -> None:
    requests = requests_for(photo_folder, 2)
    rows = np.array([row for row in range(len(requests)) if row % 5])
    slices = [given.requests for given in driver._slices(requests, rows, 7)]
    assert [one for some in slices for one in some] == [
        (requests[row].path, requests[row].sha256, requests[row].view) for row in rows
    ]
    images = [{sha256 for _, sha256, _ in some} for some in slices]
    assert [len(some) for some in images] == [7, 7, 7, 7, 7, 5]
    assert len(set.union(*images)) == sum(map(len, images)) == 40
