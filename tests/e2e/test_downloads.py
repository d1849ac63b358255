"""Stage extract with weights that are not on this machine yet."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

import headstart
from headstart import catalog
from headstart.catalog.spec import DownloadWeights
from headstart.common.process import run_to_status
from pipeline import extract, prepare
from tests.origin import Origin

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def _configure(**extract: str) -> None:
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["prepare"]["source"] = "photos"
    params["extract"] |= extract
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(params, file)


def _extract(weights: str) -> int:
    """Run the stage as dvc.yaml does; return its status."""
    _configure(backbone="LeNet5", weights=weights)

    def work() -> int:
        extract.main()
        return 0

    return run_to_status(work)


def test_features_of_downloaded_weights_are_those_of_the_file(
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from headstart.catalog import building, loading, weights

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "store"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    spec = catalog.get("LeNet5")
    loading.save(
        building.build(spec, spec.default_size, weights.resolve(spec, "random", 5)),
        Path("lenet.weights.h5"),
    )
    Path("photos").symlink_to(photo_folder)
    _configure()
    prepare.main()
    assert _extract("lenet.weights.h5") == 0
    expected = headstart.read_features().X

    with Origin() as origin:
        source = DownloadWeights(f"{origin.url}/lenet.weights.h5", "lenet.weights.h5", None)
        published = dataclasses.replace(spec, pretrained=source)
        monkeypatch.setattr(catalog, "specs", lambda: (published,))
        origin.files["/lenet.weights.h5"] = Path("lenet.weights.h5").read_bytes()
        origin.faults["/lenet.weights.h5"] = "half"
        capsys.readouterr()
        assert _extract("pretrained") == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "the download of LeNet5 failed" in line
        assert list((tmp_path / "keras" / "models").iterdir()) == []

        origin.faults.clear()
        assert _extract("pretrained") == 0
    # Now nothing answers any more.
    Path("features/bottleneck.h5").unlink()
    assert _extract("pretrained") == 0
    np.testing.assert_array_equal(headstart.read_features().X, expected)
