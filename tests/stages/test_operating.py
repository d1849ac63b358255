"""Sets of classes and decisions by cost: from params.yaml by evaluate to predict and export."""

import csv
import io
import json
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from headstart import load_model
from headstart.commands.cli import main
from headstart.common.errors import InputError
from headstart.common.files import read_json
from headstart.dataset.leak_table import write_leaks
from headstart.evaluation.operating import find_point
from headstart.heads import load
from headstart.heads.base import HELD_OUT_FILE
from headstart.scoring.predictions import Predictions
from pipeline import evaluate, train
from tests.feature_files import blobs, write_project

ROOT = Path(__file__).parents[2]
COSTS = {"class 0": {"class 1": 5}, "class 2": {"class 1": 0.5}}


def set_params(root: Path, **sections: dict[str, Any]) -> None:
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, values in sections.items():
        params[name] |= values
    YAML().dump(params, root / "params.yaml")


def run(root: Path, **options: Any) -> dict[str, Any]:
    """Evaluate with these options; return metrics/test.json."""
    set_params(root, train={"heads": {"logistic": {}, "prototype": {}}}, evaluate=options)
    with chdir(root):
        evaluate.main()
    return dict(read_json(root / "metrics/test.json"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two heads on three classes that overlap."""
    root = tmp_path_factory.mktemp("operating")
    write_project(root, *blobs(200, 3, 12, gap=1.2))
    write_leaks(root / "data/leaks.csv", [])
    set_params(root, train={"heads": {"logistic": {}, "prototype": {}}})
    with chdir(root):
        train.main()
    return root


def test_sets_and_decisions_are_fitted_on_held_out_and_checked_on_test_images(
    project: Path,
) -> None:
    content = run(project, coverage=0.9, costs=COSTS, abstain_cost=0.4)
    operating = read_json(project / "models/operating.json")
    assert set(operating["models"]) == set(content["heads"]) == {"logistic", "prototype"}
    for name, scored in content["heads"].items():
        folder = project / "models/heads" / name
        point, problem = find_point(folder, load(folder).card.class_names)
        assert problem == ""
        assert point is not None
        assert point.sets is not None
        assert point.costs is not None
        # What covers the held-out images, whose labels alone were asked.
        held_out = Predictions.read(folder / HELD_OUT_FILE)
        labels = np.array([int(line["label"][-1]) for line in manifest(project)])
        assert point.sets.units.tolist() == np.bincount(labels[held_out.image]).tolist()
        own = point.sets.of(held_out.probabilities)[np.arange(480), labels[held_out.image]]
        assert 0.9 <= own.mean() < 0.92
        told = Predictions.read(project / "predictions/heads" / f"{name}.h5")
        inside = point.sets.of(told.probabilities)
        held = inside[np.arange(len(inside)), labels[told.image]]
        coverage = scored["coverage"]
        assert coverage["covered"] == held.mean()
        assert coverage["low"] < coverage["covered"] < coverage["high"]
        assert coverage["set_size"] == inside.sum(axis=1).mean() > 1
        assert [one["class"] for one in coverage["per_class"]] == ["class 0", "class 1", "class 2"]
        decisions = scored["decisions"]
        named = point.costs.decide(told.probabilities)
        assert decisions["cost"] == point.costs.cost(labels[told.image], named).mean()
        assert decisions["cost"] < decisions["cost_of_likeliest"]
        assert decisions["abstained"] == (named == -1).mean() > 0
        assert decisions["held_out_cost"] == pytest.approx(decisions["cost"], abs=0.15)
    chosen = content["selected"]["head"]
    for block in ("coverage", "decisions"):
        assert content["selected"][block] == content["heads"][chosen][block]


def manifest(project: Path) -> list[dict[str, str]]:
    with (project / "data/manifest.csv").open(newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))


def test_nothing_is_added_where_nothing_is_asked_for(project: Path) -> None:
    content = run(project)
    assert not {"coverage", "decisions"} & set(content["selected"])
    assert read_json(project / "models/operating.json")["models"] == {}
    folder = project / "models/heads/logistic"
    assert find_point(folder, ("class 0", "class 1", "class 2")) == (None, "")


def test_the_same_run_gives_the_same_bytes(project: Path) -> None:
    run(project, coverage=0.8, abstain_cost=0.2)
    first = (project / "models/operating.json").read_bytes()
    run(project, coverage=0.8, abstain_cost=0.2)
    assert (project / "models/operating.json").read_bytes() == first


def test_a_class_that_does_not_exist_is_refused(project: Path) -> None:
    with pytest.raises(InputError, match=r"^params.yaml: evaluate.costs: no class is called cow; "):
        run(project, costs={"cow": {"class 1": 2}})


def test_too_few_held_out_images_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(tmp_path, *blobs(20, 3, 12))
    write_leaks(tmp_path / "data/leaks.csv", [])
    set_params(tmp_path, train={"heads": {"logistic": {}, "prototype": {}}})
    with chdir(tmp_path):
        train.main()
    coverage = run(tmp_path, coverage=0.99)["selected"]["coverage"]
    assert (coverage["covered"], coverage["set_size"]) == (1.0, 3.0)
    assert (
        "warning: evaluate.coverage: 0.99 takes 99 held-out units (images that belong together "
        "count once), and there are 48: the sets of logistic, prototype hold all classes"
    ) in capsys.readouterr().err


def test_without_test_images_there_is_an_operating_point_all_the_same(tmp_path: Path) -> None:
    features, labels = blobs(40, 3, 12)
    write_project(tmp_path, features, labels, split=np.full(120, "train"))
    write_leaks(tmp_path / "data/leaks.csv", [])
    set_params(tmp_path, train={"heads": {"logistic": {}, "prototype": {}}})
    with chdir(tmp_path):
        train.main()
    selected = run(tmp_path, coverage=0.9, abstain_cost=0.3)["selected"]
    assert selected["coverage"] == {"wanted": 0.9}
    assert set(selected["decisions"]) == {"held_out_cost"}
    assert find_point(tmp_path / "models/heads/logistic", ("class 0", "class 1", "class 2"))[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "expected JSON that begins with the sha256 of the rest"),
        ('{\n  "sha256": "' + "0" * 64 + '",\n}', "it was damaged or changed after it was written"),
    ],
)
def test_a_damaged_operating_point_is_refused(tmp_path: Path, content: str, message: str) -> None:
    folder = tmp_path / "heads" / "logistic"
    folder.mkdir(parents=True)
    (tmp_path / "operating.json").write_text(content)
    with pytest.raises(InputError, match=f"operating.json: {message}.*dvc repro evaluate"):
        find_point(folder, ("a", "b"))


@pytest.fixture(scope="module")
def decided(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos with a model that is to cover 97 %, and is not to take the cold for warm."""
    root = tmp_path_factory.mktemp("decided") / "project"
    shutil.copytree(trained, root)
    params = YAML(typ="safe").load((root / "params.yaml").read_text())
    params["evaluate"] |= {
        "coverage": 0.5,
        "costs": {"cold": {"warm": 1e9}},
        "abstain_cost": 0.0,
    }
    YAML().dump(params, root / "params.yaml")
    with chdir(root):
        evaluate.main()
    return root


def predict(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    capsys.readouterr()
    assert main(["predict", "photos", "--head", "logistic", *arguments]) == 0
    found = capsys.readouterr()
    return found.out, found.err


def test_predict_tells_sets_and_decisions(
    decided: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with chdir(decided):
        lines = [json.loads(one) for one in predict(capsys, "--format", "json")[0].splitlines()]
        table, _ = predict(capsys)
        rows = list(csv.DictReader(io.StringIO(predict(capsys, "--format", "csv")[0])))
        free, _ = predict(capsys, "--format", "json", "--no-abstain")
        averaged, note = predict(capsys, "--format", "json", "--views", "1")
        frame = load_model("models/heads/logistic").predict("photos")
    assert {line["reason"] for line in lines} <= {"cost", "novelty"}
    assert all(line["decision"] is None for line in lines)
    familiar = [line for line in lines if line["reason"] == "cost"]
    assert len(familiar) > 30
    for line in familiar:
        assert not line["abstained"]
        assert line["set"] == [line["prediction"]]
    for row, line in zip(rows, lines, strict=True):
        told = json.loads(row["set"]) if row["set"] else None
        assert (told, row["decision"], row["reason"]) == (line["set"], "", line["reason"])
    assert list(rows[0])[:7] == [
        *("path", "prediction", "novelty", "abstained"),
        *("set", "decision", "reason"),
    ]
    assert table.count("  {cold}  by cost (none)") + table.count("  {warm}  by cost (none)") == len(
        familiar
    )
    # One class must be named, and cold is never wrong by much.
    assert {json.loads(line)["decision"] for line in free.splitlines()} == {"cold"}
    assert "set" not in json.loads(averaged.splitlines()[0])
    assert note.startswith("note: sets of classes and decisions by cost are left out: ")
    assert list(frame["decision"]) == [None] * len(lines)
    assert list(frame["set"]) == [[name] for name in frame["class"]]


def test_a_retrained_model_goes_without_until_it_is_evaluated(
    decided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "project"
    shutil.copytree(decided, root)
    params = YAML(typ="safe").load((root / "params.yaml").read_text())
    params["train"]["heads"]["logistic"] = {"l2": 100.0}
    YAML().dump(params, root / "params.yaml")
    with chdir(root):
        train.main()
        out, err = predict(capsys, "--format", "json")
        assert not {"set", "decision"} & set(json.loads(out.splitlines()[0]))
        assert err == (
            f"warning: {root}/models/operating.json: made for other models than the one in "
            "models/heads/logistic; there are no sets of classes, nor decisions by cost. `dvc "
            "repro` writes it anew.\n"
        )
        with pytest.warns(UserWarning, match="there are no sets, nor decisions"):
            frame = load_model("models/heads/logistic").predict("photos")
        assert list(frame) == ["path", "class", "probability", "novelty"]
        evaluate.main()
        out, err = predict(capsys, "--format", "json")
    assert {"set", "decision"} <= set(json.loads(out.splitlines()[0]))
    assert err == ""


def test_export_carries_thresholds_and_costs(
    decided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "project"
    shutil.copytree(decided, root)
    with chdir(root):
        assert main(["export", "--format", "openvino", "--head", "logistic"]) == 0
        record = read_json(Path("exports/openvino/export.json"))
        model = read_json(Path("models/operating.json"))["models"]["logistic"]
        del model["card_sha256"]
        assert record["operating"] == model
        assert model["decisions"]["costs"] == {"cold": {"warm": 1e9}}
        assert model["decisions"]["thresholds"]["warm"] == 1.0
        card = Path("exports/openvino/README.md").read_text(encoding="utf-8")
    assert "50% of the sets of further" in card
    assert "| cold | 1 | 32 |" in card
    assert "Naming none costs 0." in card
    assert "  cold:\n    warm: 1000000000.0\n" in card
    assert "probability is at least: cold " in card
