"""A network of an ONNX file, from photos to predictions, and what it says it cannot do."""

import csv
import io
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from ruamel.yaml import YAML

from headstart import BottleneckFeatures, load_model
from headstart.commands import cli
from headstart.common.errors import InputError
from headstart.dataset.manifest import read_manifest
from headstart.features.file import FeatureFile
from headstart.report.spatial import spatial_maps
from pipeline import evaluate, extract, finetune, novelty, prepare, pretrain, report, train
from tests import onnx_graphs

ROOT = Path(__file__).parents[2]
FED = {"scale": 1.0, "mean": [127.0] * 3, "std": [128.0] * 3, "interpolation": "bilinear"}


def write_params(**sections: dict[str, Any]) -> None:
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["prepare"]["source"] = "photos"
    params["extract"] |= {
        "backbone": "onnx",
        "weights": "models/weights/net.onnx",
        "layer": "block",
        "onnx": FED,
    }
    params["train"]["heads"] = {"logistic": {}, "prototype": {}}
    for name, changes in sections.items():
        params[name] |= changes
    YAML().dump(params, Path("params.yaml"))


@pytest.fixture(scope="module")
def project(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose pipeline has run up to the report."""
    root = tmp_path_factory.mktemp("onnx")
    shutil.copytree(photo_folder, root / "photos")
    (root / "models" / "weights").mkdir(parents=True)
    onnx_graphs.conv_net(root / "models" / "weights" / "net.onnx")
    with chdir(root):
        write_params()
        for stage in (prepare, pretrain, extract, train, novelty, finetune, evaluate, report):
            stage.main()
    return root


@pytest.fixture(autouse=True)
def _there(project: Path) -> Iterator[None]:
    with chdir(project):
        yield
        write_params()


def expected_features(path: Path) -> np.ndarray:
    """Return what ONNX Runtime and Pillow make of a photo."""
    model = onnx.load("models/weights/net.onnx")
    model.graph.output.append(onnx.ValueInfoProto(name="block"))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    with Image.open(path) as image:
        pixels = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR), np.float32)
    (maps,) = session.run(["block"], {"images": ((pixels - 127) / 128).transpose(2, 0, 1)[None]})
    return maps.mean((2, 3))[0]


def test_the_features_are_the_networks() -> None:
    file = FeatureFile.open(Path("features/bottleneck.h5"))
    assert file.features.shape == (40, 8)
    with Path("data/manifest.csv").open(encoding="utf-8") as table:
        paths = [row["path"] for row in csv.DictReader(table)]
    expected = np.stack([expected_features(Path(path)) for path in paths])
    assert np.abs(file.features - expected).max() <= 1e-4 * np.abs(expected).max()


def test_predict_needs_nothing_but_the_model_and_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    monkeypatch.chdir(project.parent)
    model = str(project / "models" / "heads" / "logistic")
    photo = str(project / "photos" / "warm" / "00.jpg")
    assert cli.main(["predict", "--model", model, photo, "--no-abstain", "--format", "csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["prediction"] == "warm"


def test_python_gives_the_features_of_the_pipeline() -> None:
    file = FeatureFile.open(Path("features/bottleneck.h5"))
    with Path("data/manifest.csv").open(encoding="utf-8") as table:
        paths = [row["path"] for row in csv.DictReader(table)]
    extractor = BottleneckFeatures(
        "onnx", weights="models/weights/net.onnx", layer="block", onnx=FED
    )
    assert np.array_equal(extractor.fit_transform(paths), file.features)
    assert set(load_model().predict(paths[:2])["class"]) <= {"warm", "cold"}


@pytest.mark.parametrize("unfreeze", ["all", "last_block", "scratch", 0.2])
def test_fine_tuning_is_refused_before_anything_is_trained(unfreeze: str | float) -> None:
    write_params(finetune={"unfreeze": unfreeze, "head": "logistic"})
    with pytest.raises(InputError, match=r"finetune\.unfreeze: expected none, .*net\.onnx"):
        train.main()
    with pytest.raises(InputError, match=r"finetune\.unfreeze: expected none, .*net\.onnx"):
        finetune.main()


def test_pretraining_is_refused() -> None:
    write_params(pretrain={"runs": {"own": {"backbone": "onnx", "seed": 0}}})
    with pytest.raises(InputError, match=r"runs\.own\.backbone: onnx .* cannot be trained"):
        pretrain.main()


def test_advice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["advise"]) == 1
    assert "of an ONNX file (models/weights/net.onnx) cannot be trained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"onnx": {"layuot": "nchw"}}, "extract.onnx.layuot: unknown key"),
        ({"onnx": {"std": [1, 1, 0]}}, "extract.onnx.std.2: Input should be greater than 0"),
        ({"onnx": {"mean": [0.5]}}, "extract.onnx.mean: List should have at least 3 items"),
        ({"weights": "pretrained"}, "expected a path ending in .onnx, received 'pretrained'"),
        ({"backbone": "LeNet5"}, "expected onnx with weights models/weights/net.onnx, received L"),
        ({"engine": "tensorflow"}, "extract.engine: expected auto or openvino"),
    ],
)
def test_options_that_cannot_be_used(changes: dict[str, Any], message: str) -> None:
    write_params(extract=changes)
    with pytest.raises(InputError, match=message):
        extract.main()


def test_openvino_holds_network_and_head_in_one_graph(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # It compares the probabilities itself.
    for head in ("logistic", "prototype"):
        arguments = ["--format", "openvino", "--head", head, "-o", str(tmp_path / head)]
        assert cli.main(["export", *arguments]) == 0
        assert (tmp_path / head / "model.xml").is_file()
    assert "one image at a time" in (tmp_path / head / "README.md").read_text(encoding="utf-8")
    assert "largest difference from the pipeline" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["--format", "keras"], ["--format", "onnx"], ["--format", "openvino", "--quantize", "int8"]],
)
def test_formats_that_cannot_hold_it(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert cli.main(["export", *arguments]) == 1
    assert "of an ONNX file (models/weights/net.onnx), which this" in capsys.readouterr().err


def test_compare_takes_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "onnx:gone.onnx", "LeNet5:random"]) == 1
    assert "gone.onnx: no such file" in capsys.readouterr().err


def test_the_report_does_without_maps_of_tokens_that_have_no_places(
    project: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(project, tmp_path / "copy")
    with chdir(copy):
        onnx_graphs.vit(Path("models/weights/net.onnx"))
        write_params(extract={"layer": "auto", "onnx": {"prefix_tokens": 0}})
        extract.main()
        results = SimpleNamespace(
            features=FeatureFile.open(Path("features/bottleneck.h5")),
            manifest=read_manifest(Path("data/manifest.csv")),
        )
        assert spatial_maps(results)([0, 1]) is None
        # With its class token told there are 4 x 4 patches.
        write_params(extract={"layer": "auto", "onnx": {"prefix_tokens": 1}})
        extract.main()
        results.features = FeatureFile.open(Path("features/bottleneck.h5"))
        assert spatial_maps(results)([0, 1]).shape == (2, 4, 4, 12)
