"""Stage extract with weights that are not on this machine yet, Keras' and the hub's."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

import headstart
from headstart import catalog
from headstart.catalog.hub import download
from headstart.catalog.spec import BackboneSpec, DownloadWeights, HubNetwork, HubWeights
from headstart.common.process import run_to_status
from pipeline import extract, prepare
from tests.hub_arrays import NETWORKS
from tests.origin import Origin

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "store"))
    for name in ("KERAS_HOME", "KAGGLEHUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "downloads" / name))
    with Origin() as running:
        monkeypatch.setattr(download, "ORIGIN", running.url)
        yield running


@pytest.fixture(params=["keras", "hub"])
def published(request: pytest.FixtureRequest) -> tuple[BackboneSpec, Path, str]:
    """A small backbone, its weights as a local file or folder, and their address at the origin."""
    made: tuple[BackboneSpec, Path, str] = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def keras(origin: Origin, tmp_path: Path) -> tuple[BackboneSpec, Path, str]:
    from headstart.catalog import building, loading, weights

    spec, path = catalog.get("LeNet5"), tmp_path / "lenet.weights.h5"
    model = building.build(spec, spec.default_size, weights.resolve(spec, "random", 5))
    loading.save(model, path)
    origin.files["/lenet.weights.h5"] = path.read_bytes()
    source = DownloadWeights(f"{origin.url}/lenet.weights.h5", "lenet.weights.h5", None)
    return replace(spec, pretrained=source), path, "/lenet.weights.h5"


@pytest.fixture
def hub(origin: Origin, hub_folder: Callable[[str, str], Path]) -> tuple[BackboneSpec, Path, str]:
    folder, tiny = hub_folder("keras_hub", "dinov2"), NETWORKS["dinov2"]
    # The image size of its positions is the folder's own.
    sizes = tuple(one for one in tiny.arguments.items() if one[0] != "position_embedding_shape")
    slug = "keras/dinov2/keras/dinov2_tiny/1"
    prefix = f"/api/v1/models/{slug}/download"
    for path in folder.iterdir():
        origin.files[f"{prefix}/{path.name}"] = path.read_bytes()
    spec = replace(
        catalog.get("DINOv2Small"),
        network=HubNetwork("dinov2", sizes),
        default_size=tiny.image_size,
        min_size=4,
        size_multiple=4,
        feature_dim=tiny.arguments["hidden_dim"],
        pretrained=HubWeights("dinov2_tiny", f"kaggle://{slug}"),
    )
    return spec, folder, f"{prefix}/model.weights.h5"


def _configure(**extract: str) -> None:
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["prepare"]["source"] = "photos"
    params["extract"] |= extract
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(params, file)


def _extract(backbone: str, weights: str) -> int:
    """Run the stage as dvc.yaml does; return its status."""
    _configure(backbone=backbone, weights=weights)

    def work() -> int:
        extract.main()
        return 0

    return run_to_status(work)


def test_features_of_downloaded_weights_are_those_of_local_ones(
    origin: Origin,
    published: tuple[BackboneSpec, Path, str],
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec, local, address = published
    monkeypatch.setattr(catalog, "specs", lambda: (spec,))
    monkeypatch.chdir(tmp_path)
    Path("photos").symlink_to(photo_folder)
    _configure(backbone=spec.name, weights=str(local))
    prepare.main()
    assert _extract(spec.name, str(local)) == 0
    expected = headstart.read_features().X

    # Another store, so that nothing is taken from the first one.
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "other"))
    origin.faults[address] = "half"
    capsys.readouterr()
    assert _extract(spec.name, "pretrained") == 1
    beginning, message = capsys.readouterr().err.splitlines()
    assert beginning.startswith("downloading ")
    assert f"{address}: broken off" in message
    here = [path.name for path in Path("downloads").rglob("*")]
    assert not [name for name in here if name.endswith(".h5") or name.startswith(".headstart")]

    origin.faults.clear()
    assert _extract(spec.name, "pretrained") == 0
    origin.close()
    # Now nothing answers any more.
    Path("features/bottleneck.h5").unlink()
    assert _extract(spec.name, "pretrained") == 0
    np.testing.assert_array_equal(headstart.read_features().X, expected)
