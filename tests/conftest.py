"""What all tests share: an own feature store, no network, small generated photos."""

import os
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# How wide the window is from which the tests are started is not theirs: tables would be cut to it.
os.environ.pop("COLUMNS", None)
# Else each of some thousand processes that tests start would compile the library once more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_runtest_setup() -> None:
    """No test reaches the network; local servers and sockets between processes are allowed."""
    from pytest_socket import socket_allow_hosts

    socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)


@pytest.fixture(scope="session", autouse=True)
def _own_feature_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the user's feature store out of the tests, in this process and those it starts."""
    os.environ["HEADSTART_CACHE"] = str(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def photo() -> Callable[[int, int, int], np.ndarray]:
    """Make a smooth, noisy, photo-like image: seed, height, width -> uint8 (height, width, 3)."""

    def make(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=float)
        noise = rng.normal(0, 6, (height, width, 3))
        return np.clip(smooth + noise, 0, 255).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def photo_folder(
    tmp_path_factory: pytest.TempPathFactory, photo: Callable[[int, int, int], np.ndarray]
) -> Path:
    """A folder with two classes of 20 JPEGs: reddish ("warm") and bluish ("cold")."""
    root = tmp_path_factory.mktemp("photos")
    for label, channel in (("warm", 0), ("cold", 2)):
        (root / label).mkdir()
        for index in range(20):
            image = photo(index + 100 * channel, 96, 128) // 2
            image[..., channel] += 100
            Image.fromarray(image).save(root / label / f"{index:02}.jpg", quality=92)
    return root


@pytest.fixture(scope="session")
def hub_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Make a tiny network's preset: layout ("keras_hub", "transformers", "timm"), name -> folder.

    The folder is shared by the session's tests: copy it before you change it.
    """
    pytest.importorskip("keras_hub", reason="hub backbones need the extra: headstart[hub]")
    from tests import hub_presets

    root = tmp_path_factory.mktemp("presets")

    def make(layout: str, name: str) -> Path:
        folder = root / layout / name
        if not folder.is_dir():
            getattr(hub_presets, f"{layout}_folder")(name, folder)
        return folder

    return make


@pytest.fixture(scope="session")
def trained(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose pipeline has run: warm and cold photos, LeNet5 with random weights."""
    from pipeline import evaluate, extract, novelty, prepare, train

    root = tmp_path_factory.mktemp("trained")
    shutil.copytree(photo_folder, root / "photos")
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    params["prepare"]["source"] = "photos"
    params["extract"] |= {"backbone": "LeNet5", "weights": "random", "seed": 3}
    params["train"]["heads"] = {"logistic": {}, "prototype": {}}
    YAML().dump(params, root / "params.yaml")
    with chdir(root):
        for stage in (prepare, extract, train, novelty, evaluate):
            stage.main()
    return root
