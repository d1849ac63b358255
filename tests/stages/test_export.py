"""A trained head becomes a folder that answers like the pipeline, with its model card."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.cli import main
from pipeline.errors import InputError
from pipeline.exporting.checking import Reference
from pipeline.exporting.export import Job, export
from pipeline.exporting.formats import FORMATS
from pipeline.feature_file import FeatureFile
from pipeline.heads import load
from pipeline.images import decode
from pipeline.manifest import read_manifest
from pipeline.stages import evaluate, extract, prepare, train

PROJECT = Path(__file__).parents[2]
HEADS = ("logistic", "prototype", "knn", "dense")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, photo_folder):
    """A finished run of the real stages on generated photos, with a small random network."""
    root = tmp_path_factory.mktemp("finished")
    yaml = YAML(typ="safe")
    params = yaml.load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params["prepare"]["source"] = str(photo_folder)
    params["extract"] |= {"backbone": "LeNet5", "weights": "random", "image_size": 32}
    params["train"]["heads"] = {name: {} for name in HEADS}
    params["train"]["heads"]["dense"] = {"units": [8], "epochs": 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        with Path("params.yaml").open("w", encoding="utf-8") as file:
            yaml.dump(params, file)
        prepare.main([])
        extract.main([])
        for name in HEADS:
            train.main([name])
        evaluate.main([])
    return root


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """The run, to be changed at will."""
    root = tmp_path / "project"
    shutil.copytree(finished, root)
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("head", ["logistic", "prototype", "dense"])
def test_the_file_says_what_the_head_says(project, head, capsys):
    assert main(["export", "--format", "openvino", "--head", head]) == 0
    out = capsys.readouterr().out
    assert out.startswith("exports/openvino/model.xml: ")
    predict = FORMATS["openvino"].writer().load(Path("exports/openvino"))
    file = FeatureFile.open(Path("features/bottleneck.h5"))
    rows = file.rows("validation")
    expected = load(Path("models") / head).predict_proba(file.features, rows)
    paths = [Path(read_manifest(Path("data/manifest.csv")).rows[i].path) for i in file.image[rows]]
    said = np.concatenate([predict(decode(path.read_bytes())[np.newaxis]) for path in paths])
    np.testing.assert_allclose(said, expected, atol=1e-5)


def test_the_card_tells_what_was_measured(project):
    assert main(["export", "--format", "openvino"]) == 0
    folder = Path("exports/openvino")
    assert (folder / "labels.txt").read_text() == "cold\nwarm\n"
    record = json.loads((folder / "export.json").read_text())
    assert record["agreement"]["largest_difference"] <= 1e-4
    _, front, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    metadata = YAML(typ="safe").load(front)
    assert metadata["pipeline_tag"] == "image-classification"
    test = json.loads(Path("metrics/test.json").read_text())
    selected = test["selected"]["head"]
    (result,) = metadata["model-index"][0]["results"]
    measured = {entry["type"]: entry["value"] for entry in result["metrics"]}
    assert measured["accuracy"] == pytest.approx(test[selected]["accuracy"], abs=1e-4)
    assert f"| Accuracy | {test[selected]['accuracy']:.3f} |" in body
    assert str(project) not in body


def test_another_export_is_replaced_whole(project):
    assert main(["export", "--format", "openvino", "--head", "logistic", "-o", "out"]) == 0
    Path("out/left.txt").write_text("from before")
    assert main(["export", "--format", "openvino", "--head", "prototype", "-o", "out"]) == 0
    assert not Path("out/left.txt").exists()
    assert json.loads(Path("out/export.json").read_text())["head"] == "prototype"
    assert not [path for path in Path().iterdir() if path.name.startswith(".out")]


def test_a_model_that_differs_is_not_kept(project):
    from pipeline.exporting.assembling import assemble_parts

    manifest = read_manifest(Path("data/manifest.csv"))
    head = load(Path("models/logistic"))
    rows = list(manifest)[:2]
    wrong = Reference("test", rows, manifest.labels[:2], np.full((2, 2), 0.5))
    job = Job(
        format=FORMATS["openvino"],
        parts=assemble_parts(Path("models/logistic")),
        card=head.card,
        reference=wrong,
    )
    with pytest.raises(InputError, match=r"openvino: the exported model differs from the pipeline"):
        export(job, Path("out"), lambda exported: "")
    assert not Path("out").exists()
    assert not [path for path in Path().iterdir() if path.name.startswith(".out")]
    changed = rows[0]._replace(sha256="0" * 64)
    with pytest.raises(InputError, match=r"the file has changed since `prepare`"):
        export(
            replace(job, reference=replace(wrong, rows=[changed, rows[1]])),
            Path("out"),
            lambda exported: "",
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--head", "knn"], "error: a knn head cannot be exported"),
        (["--head", "missing"], "error: models/missing/head.json: no such head"),
        (["--quantize", "int8"], "error: --quantize int8: keras has no 8-bit convolutions"),
        (["-o", "models"], "error: models: expected a new or empty folder or an earlier export"),
        (["-o", "params.yaml"], "error: params.yaml: expected a new or empty folder"),
    ],
)
def test_says_what_is_wrong_and_writes_nothing(project, capsys, arguments, message):
    before = sorted(path for path in project.rglob("*"))
    assert main(["export", "--format", "keras", *arguments]) == 1
    assert capsys.readouterr().err.startswith(message)
    assert sorted(path for path in project.rglob("*")) == before


def test_other_classes_are_refused(project, capsys):
    table = Path("data/manifest.csv")
    table.write_text(table.read_text().replace(",warm,", ",hot,"))
    assert main(["export", "--format", "keras"]) == 1
    assert "trained on the classes cold, warm, but data/manifest.csv has" in capsys.readouterr().err


def test_without_scores_a_model_must_be_named(project, capsys):
    Path("metrics/test.json").unlink()
    assert main(["export", "--format", "keras"]) == 1
    assert "or name a model with --head or --model" in capsys.readouterr().err
