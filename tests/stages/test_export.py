"""A trained head becomes a folder that answers like the pipeline, with its model card."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from ruamel.yaml import YAML

from headstart.commands.cli import main
from headstart.commands.export.card import escaped
from headstart.commands.export.checking import Reference
from headstart.commands.export.export import ExportJob, export
from headstart.commands.export.formats import FORMATS
from headstart.commands.export.writers import writer_of
from headstart.common.errors import InputError
from headstart.common.seal import write_checksum
from headstart.dataset.manifest import read_manifest
from headstart.features.file import FeatureFile
from headstart.heads import load
from headstart.images.decoding import decode
from pipeline import evaluate, extract, finetune, prepare, train
from tests.hardware import needs_precision

PROJECT = Path(__file__).parents[2]
HEADS = ("logistic", "prototype", "knn", "dense")
_WITH_TENSORFLOW = sorted(FORMATS.keys() - {"onnx", "openvino"})


def _params(photos, *heads):
    """Return the project's own params, for generated photos and a small random network."""
    params = YAML(typ="safe").load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params["prepare"]["source"] = str(photos)
    params["extract"] |= {"backbone": "LeNet5", "weights": "random", "image_size": 32}
    params["train"]["heads"] = {name: {} for name in heads}
    for name, options in (("dense", {"units": [8], "epochs": 3}), ("gap", {"epochs": 3})):
        if name in heads:
            params["train"]["heads"][name] = options
    return params


def _run(params):
    """Run the real stages in the current folder."""
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(params, file)
    for stage in (prepare, extract, train, finetune, evaluate):
        stage.main()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, photo_folder):
    """A finished run of the real stages on generated photos, with a small random network."""
    root = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        _run(_params(photo_folder, *HEADS))
    return root


@pytest.fixture(scope="module")
def finished_on_maps(tmp_path_factory, photo_folder):
    """A finished run on features that are not pooled, with a head on them and a fine-tuned one."""
    root = tmp_path_factory.mktemp("on_maps")
    params = _params(photo_folder, "gap")
    params["extract"] |= {"layer": "s4", "pooling": "none"}
    params["finetune"] |= {"head": "gap", "unfreeze": "all", "epochs": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        _run(params)
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
    predict = writer_of(FORMATS["openvino"]).load(Path("exports/openvino"))
    file = FeatureFile.open(Path("features/bottleneck.h5"))
    rows = file.rows("validation")
    expected = load(Path("models/heads") / head).predict_proba(file.features, rows)
    paths = [Path(read_manifest(Path("data/manifest.csv")).rows[i].path) for i in file.image[rows]]
    said = np.concatenate([predict(decode(path.read_bytes())[np.newaxis]) for path in paths])
    np.testing.assert_allclose(said, expected, atol=1e-5)


@pytest.mark.parametrize("model", ["models/heads/gap", "models/finetuned"])
def test_heads_on_maps_and_fine_tuned_models_say_the_same_outside(
    finished_on_maps, monkeypatch, tmp_path, model, capsys
):
    monkeypatch.chdir(finished_on_maps)
    manifest = read_manifest(Path("data/manifest.csv"))
    paths = [row.path for row in manifest if row.split == "test"]
    assert main(["export", "--format", "openvino", "--model", model, "-o", str(tmp_path)]) == 0
    predict = writer_of(FORMATS["openvino"]).load(tmp_path)
    said = np.concatenate([predict(decode(Path(path).read_bytes())[np.newaxis]) for path in paths])
    capsys.readouterr()
    assert main(["predict", *paths, "--model", model, "--format", "json", "--no-abstain"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["path"] for line in lines] == paths
    answers = [
        {entry["class"]: entry["probability"] for entry in line["classes"]} for line in lines
    ]
    expected = [[answer[name] for name in manifest.class_names] for answer in answers]
    np.testing.assert_allclose(said, expected, atol=1e-5)


def test_a_lower_precision_of_the_features_is_told_and_not_mistaken_for_an_error(
    tmp_path, monkeypatch, photo_folder, capsys
):
    needs_precision("bfloat16")
    params = _params(photo_folder, "logistic")
    params["extract"]["precision"] = "bfloat16"
    monkeypatch.chdir(tmp_path)
    _run(params)
    capsys.readouterr()
    assert main(["export", "--format", "openvino"]) == 0
    out = capsys.readouterr().out
    assert "from the pipeline in float32 on" in out
    assert "; difference due to cached features in bfloat16: " in out
    agreement = json.loads(Path("exports/openvino/export.json").read_text())["agreement"]
    assert agreement["largest_difference"] <= 1e-4
    assert 0 < agreement["precision_difference"] < 0.1
    card = Path("exports/openvino/README.md").read_text(encoding="utf-8")
    assert "computed in bfloat16 to train the classifier" in card


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
    assert measured["accuracy"] == pytest.approx(test["heads"][selected]["accuracy"], abs=1e-4)
    assert f"| Accuracy | {test['heads'][selected]['accuracy']:.3f} |" in body
    assert str(project) not in body


@pytest.mark.parametrize(
    "name",
    # The others' examples import TensorFlow, which takes seconds.
    [
        "onnx",
        "openvino",
        *(pytest.param(name, marks=pytest.mark.slow) for name in _WITH_TENSORFLOW),
    ],
)
def test_the_cards_example_runs_as_it_stands_and_says_what_predict_says(
    finished, tmp_path, monkeypatch, capsys, photo, name
):
    monkeypatch.chdir(finished)
    assert main(["export", "--format", name, "--head", "logistic", "-o", str(tmp_path)]) == 0
    # As cameras write them: no square, and turned.
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(photo(7, 60, 90)).save(tmp_path / "photo.jpg", quality=95, exif=exif)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    if name == "litert" and importlib.util.find_spec("ai_edge_litert") is None:
        # The same interpreter, from the package that it comes from.
        (tmp_path / "ai_edge_litert").mkdir()
        (tmp_path / "ai_edge_litert" / "interpreter.py").write_text(
            "import tensorflow as tf\nInterpreter = tf.lite.Interpreter\n"
        )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = [line.split(": ") for line in done.stdout.splitlines()]
    capsys.readouterr()
    arguments = ["predict", str(tmp_path / "photo.jpg"), "--head", "logistic", "--format", "json"]
    assert main([*arguments, "--no-abstain"]) == 0
    told = json.loads(capsys.readouterr().out)["classes"]
    assert [one for one, _ in said] == [entry["class"] for entry in told]
    assert [float(share.removesuffix("%")) for _, share in said] == pytest.approx(
        [100 * entry["probability"] for entry in told], abs=0.06
    )


def test_another_export_is_replaced_whole(project):
    assert main(["export", "--format", "openvino", "--head", "logistic", "-o", "out"]) == 0
    Path("out/left.txt").write_text("from before")
    assert main(["export", "--format", "openvino", "--head", "prototype", "-o", "out"]) == 0
    assert not Path("out/left.txt").exists()
    assert json.loads(Path("out/export.json").read_text())["head"] == "prototype"
    assert not [path for path in Path().iterdir() if path.name.endswith("-out")]


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes(finished, tmp_path):
    program = (
        "import sys\n"
        "from headstart.commands.cli import main\n"
        "for name in sys.argv[1:]:\n"
        "    int8 = ['--quantize', 'int8'] if name == 'onnx-int8' else []\n"
        "    format = name.removesuffix('-int8')\n"
        "    assert main(['export', '--format', format, '--head', 'logistic', *int8]) == 0\n"
    )
    # First the one in whose names functions are numbered over the life of a process.
    names = ["savedmodel", *sorted(FORMATS.keys() - {"savedmodel"}), "onnx-int8"]
    exports = []
    for place, order in (("one", names), ("elsewhere/two", [names[0], *names[:0:-1]])):
        root = tmp_path / place
        shutil.copytree(finished, root)
        scratch = tmp_path / f"{len(exports)}-scratch"
        scratch.mkdir()
        environment = {"PYTHONHASHSEED": str(7 * len(place)), "TMPDIR": str(scratch)}
        if exports:  # what the pipeline said is computed anew
            environment["HEADSTART_CACHE"] = str(tmp_path / "store")
        subprocess.run(
            [sys.executable, "-c", program, *order],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
            check=True,
            capture_output=True,
        )
        files = [path for path in (root / "exports").rglob("*") if path.is_file()]
        exports.append(
            {str(path.relative_to(root / "exports")): path.read_bytes() for path in files}
        )
    first, second = exports
    assert {Path(name).parts[0] for name in first} == set(names)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_an_export_goes_where_a_link_leads_and_nowhere_else(project, capsys):
    Path("real").mkdir()
    Path("link").symlink_to("real")
    for _ in range(2):
        assert main(["export", "--format", "openvino", "--head", "logistic", "-o", "link"]) == 0
    assert Path("link").is_symlink()
    assert Path("real/model.xml").is_file()
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]
    capsys.readouterr()
    assert main(["export", "--format", "openvino", "-o", "params.yaml/out"]) == 1
    told = capsys.readouterr().err
    assert "params.yaml: cannot be written to (File exists" in told
    assert told.count("\n") == 1


def test_an_export_that_fails_leaves_the_earlier_one(project, capsys):
    arguments = ["export", "--format", "openvino", "--head", "logistic", "-o", "out"]
    assert main(arguments) == 0
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    row = next(row for row in read_manifest(Path("data/manifest.csv")) if row.split == "test")
    table = Path("data/manifest.csv")
    table.write_text(table.read_text().replace(row.path, "gone.jpg"))
    write_checksum(table)
    capsys.readouterr()
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: gone.jpg: ")
    assert message.count("\n") == 1
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before
    assert not [path for path in Path().iterdir() if path.name.endswith("-out")]


def test_the_card_takes_class_names_for_text():
    assert escaped('강아지, it\'s "a"') == '강아지, it\'s "a"'
    assert escaped("# <b>&amp; | x_y*") == r"\# \<b\>\&amp; \| x\_y\*"
    assert escaped("1. one") == r"1\. one"
    assert escaped("- minus") == r"\- minus"


def test_a_model_that_differs_is_not_kept(project):
    from headstart.commands.export.assembling import whole_model

    manifest = read_manifest(Path("data/manifest.csv"))
    head = load(Path("models/heads/logistic"))
    rows = list(manifest)[:2]
    wrong = Reference("test", rows, manifest.labels[:2], np.full((2, 2), 0.5))
    job = ExportJob(
        format=FORMATS["openvino"],
        model=whole_model(Path("models/heads/logistic")),
        card=head.card,
        reference=lambda: wrong,
    )
    with pytest.raises(InputError, match=r"openvino: the exported model differs from the pipeline"):
        export(job, Path("out"), lambda exported: "")
    assert not Path("out").exists()
    assert not [path for path in Path().iterdir() if path.name.endswith("-out")]
    changed = rows[0]._replace(sha256="0" * 64)
    with pytest.raises(InputError, match=r"the file has changed: .*dvc repro prepare"):
        export(
            replace(job, reference=lambda: replace(wrong, rows=[changed, rows[1]])),
            Path("out"),
            lambda exported: "",
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--head", "knn"], "error: a knn head cannot be exported"),
        (
            ["--head", "missing"],
            f"error: --head: expected one of {', '.join(sorted(HEADS))}, received missing",
        ),
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
    write_checksum(table)
    assert main(["export", "--format", "keras"]) == 1
    assert "trained on the classes cold, warm, but data/manifest.csv has" in capsys.readouterr().err


def test_without_scores_a_model_must_be_named(project, capsys):
    Path("metrics/test.json").unlink()
    assert main(["export", "--format", "keras"]) == 1
    assert "or name a model with --head or --model" in capsys.readouterr().err
