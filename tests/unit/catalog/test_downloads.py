"""Weights from the network, Keras' and the hub's, against a server that plays the origin."""

import dataclasses
import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from headstart import catalog
from headstart.catalog import downloading
from headstart.catalog.hub import download as hub
from headstart.catalog.spec import BackboneSpec, DownloadWeights
from headstart.catalog.weights import available_offline, resolve
from headstart.common.errors import InputError
from headstart.common.system_errors import WriteError
from tests.origin import Fault, Origin

CONTENT = bytes(range(256)) * 40
HANDLE = "kaggle://keras/dinov2/keras/dinov2_small/1"
API = "/api/v1/models/keras/dinov2/keras/dinov2_small/1/download/"


@dataclass(frozen=True)
class Route:
    """One way of weights onto this machine.

    Attributes:
        origin: Where they come from.
        url: Address of the weights there.
        folder: Where they lie afterwards.
        wanted: What messages call them.
        fetch: Gets them; returns the file.
        script: Does the same in a process of its own.
    """

    origin: Origin
    url: str
    folder: Path
    wanted: str
    fetch: Callable[[], Path]
    script: str

    @property
    def path(self) -> str:
        return self.url.removeprefix(self.origin.url)

    def break_with(self, fault: Fault) -> None:
        self.origin.faults[self.path] = fault

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", self.script], stderr=subprocess.PIPE)

    def unfinished(self) -> list[Path]:
        """What is there of the weights or under a temporary name."""
        names = ("vgg.h5*", f"{hub.WEIGHTS}*", ".headstart-*")
        return [found for name in names for found in self.folder.rglob(name)]


def keras_spec(url: str, digest: str | None = None) -> BackboneSpec:
    return dataclasses.replace(
        catalog.get("VGG16"), pretrained=DownloadWeights(url, "vgg.h5", digest)
    )


def keras_weights(url: str, digest: str | None = None) -> Path:
    path = resolve(keras_spec(url, digest), "pretrained", 0).path
    assert path is not None
    return path


def keras_route(origin: Origin, home: Path) -> Route:
    url = f"{origin.url}/vgg.h5"
    origin.files["/vgg.h5"] = CONTENT
    return Route(
        origin,
        url,
        home / "keras" / "models",
        "VGG16",
        lambda: keras_weights(url),
        "import dataclasses\n"
        "from headstart import catalog\n"
        "from headstart.catalog.spec import DownloadWeights\n"
        "from headstart.catalog.weights import resolve\n"
        f"source = DownloadWeights({url!r}, 'vgg.h5', None)\n"
        "spec = dataclasses.replace(catalog.get('VGG16'), pretrained=source)\n"
        "resolve(spec, 'pretrained', 0)\n",
    )


def hub_route(origin: Origin, home: Path) -> Route:
    for name in (hub.CONFIG, "image_converter.json"):
        origin.files[API + name] = name.encode()
    origin.files[API + hub.WEIGHTS] = CONTENT
    return Route(
        origin,
        origin.url + API + hub.WEIGHTS,
        home / "hub" / "models" / "keras" / "dinov2" / "keras" / "dinov2_small" / "1",
        "preset dinov2_small",
        lambda: hub.preset_folder("dinov2_small", HANDLE) / hub.WEIGHTS,
        "from headstart.catalog.hub import download\n"
        f"download.ORIGIN = {origin.url!r}\n"
        f"download.preset_folder('dinov2_small', {HANDLE!r})\n",
    )


@pytest.fixture(params=[keras_route, hub_route], ids=["keras", "hub"])
def route(request: pytest.FixtureRequest, origin: Origin, tmp_path: Path) -> Route:
    made: Route = request.param(origin, tmp_path)
    return made


def test_weights_are_fetched_once(route: Route) -> None:
    path = route.fetch()
    assert path.parent == route.folder
    assert path.read_bytes() == CONTENT
    route.origin.close()
    asked = len(route.origin.requests)
    assert route.fetch() == path
    assert len(route.origin.requests) == asked


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (404, r"404 Not Found|there is no such file"),
        (503, "503 Service Unavailable"),
        ("half", r"broken off: IncompleteRead\(5120 bytes read, 5120 more expected\)"),
        ("stalled", "no answer for 0.3 seconds"),
        ("silent", "no answer for 0.3 seconds"),
        ("page", "a web page came in its place"),
        ("hash", "another file came: expected digest [0-9a-f]{32}, received md5 [0-9a-f]{32}"),
    ],
)
def test_a_failed_download_is_told_leaves_nothing_and_can_be_repeated(
    route: Route, fault: Fault, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "PATIENCE", 0.3)
    route.break_with(fault)
    with pytest.raises(InputError, match=f"weights: the download of {route.wanted} failed") as told:
        route.fetch()
    message = str(told.value)
    assert re.search(reason, message)
    assert route.url in message
    assert "\n" not in message
    assert route.unfinished() == []
    route.origin.faults.clear()
    assert route.fetch().read_bytes() == CONTENT


def test_without_a_network_what_can_be_done_is_told(route: Route) -> None:
    route.origin.close()
    with pytest.raises(InputError, match=r"failed \(http.*Connection refused\); run") as told:
        route.fetch()
    assert "\n" not in str(told.value)
    assert route.unfinished() == []


def test_two_processes_may_download_at_once(route: Route) -> None:
    route.break_with("pair")
    both = [route.start(), route.start()]
    for process in both:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said.decode()
    assert sum(path == route.path for path, _ in route.origin.requests) == 2
    assert [path.read_bytes() for path in route.unfinished()] == [CONTENT]


def test_a_killed_download_is_swept_by_the_next(route: Route) -> None:
    route.break_with("stalled")
    killed = route.start()
    # One half of each small file before it, then that of the weights.
    for _ in range(sum(path.endswith(".json") for path in route.origin.files) + 1):
        assert route.origin.halves.acquire(timeout=60)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    route.origin.faults.clear()
    assert [path.name[:11] for path in route.unfinished()] == [".headstart-"]
    path = route.fetch()
    assert path.read_bytes() == CONTENT
    assert route.unfinished() == [path]


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_keras_weights_must_have_the_published_digest(origin: Origin, algorithm: str) -> None:
    route = keras_route(origin, Path())
    digest = hashlib.new(algorithm, CONTENT).hexdigest()
    other = "0" * len(digest)
    with pytest.raises(InputError, match=f"another file came: expected digest {other}, received"):
        keras_weights(route.url, other)
    assert not available_offline(keras_spec(route.url, digest))
    path = keras_weights(route.url, digest)
    assert available_offline(keras_spec(route.url, digest))
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match=r"vgg\.h5: not Keras' weights of VGG16 .*delete it"):
        keras_weights(route.url, digest)


def test_without_a_network_keras_message_names_what_can_be_used(origin: Origin) -> None:
    origin.close()
    with pytest.raises(InputError, match=r"network: EfficientNetLite0, .*, or weights: random"):
        keras_weights(f"{origin.url}/vgg.h5")


def test_a_cache_that_cannot_be_written_is_told(
    route: Route, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for name in ("KERAS_HOME", "KAGGLEHUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "file"))
    with pytest.raises(WriteError, match=r"cannot be written to \(Not a directory.*move away"):
        route.fetch()
