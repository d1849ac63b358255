"""The last stage: from a run's files to one page, through the real extraction."""

import json
import os
import shutil
import subprocess
from contextlib import chdir
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML

from headstart.commands import cli
from headstart.common.errors import InputError
from headstart.common.files import write_json
from headstart.dataset.manifest import read_manifest
from headstart.heads.finetuned_card import NAME as FINETUNED
from pipeline import audit, evaluate, extract, finetune, novelty, prepare, report, train
from tests.report_run import COMPARISON

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path) -> Path:
    """A finished run of LeNet5, cut where it still knows where things are."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(photo_folder, root / "photos")
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["prepare"]["source"] = "photos"
    params["extract"] |= {
        "backbone": "LeNet5", "weights": "random", "layer": "s4", "engine": "tensorflow",
    }  # fmt: skip
    params["train"]["heads"] = {"ridge": {}, "prototype": {}}
    params["report"] |= {"heat_maps": 4}
    yaml.dump(params, root / "params.yaml")
    with chdir(root):
        for stage in (prepare, extract, train, evaluate, report):
            stage.main()
    return root


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def content(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    start = text.index('id="report">') + len('id="report">')
    return json.loads(text[start : text.index("</script>", start)])


def test_the_page_tells_the_run(here: Path) -> None:
    told = content(here / "report/index.html")
    metrics = json.loads(Path("metrics/test.json").read_text())
    assert told["class_names"] == ["cold", "warm"]
    assert told["selected"] == metrics["selected"]["head"]
    assert [head["name"] for head in told["heads"]] == ["prototype", "ridge"]
    assert len(told["pictures"]) == len(read_manifest(Path("data/manifest.csv"))) == 40
    assert [step["stage"] for step in told["steps"]] == ["prepare", "extract", "train", "evaluate"]
    extract_step = told["steps"][1]
    assert extract_step["computed"] + extract_step["reused"] == 40
    assert set(told["map"]["projections"]) == {"pca", "tsne"}
    assert len(told["neighbors"]) == 8


def test_heat_maps_come_from_the_backbone_through_the_store(here: Path) -> None:
    heat = content(here / "report/index.html")["heat"]
    assert len(heat["views"]) == 4
    assert {len(one["grid"]) for one in heat["maps"]} == {5}
    assert max(max(map(max, one["grid"])) for one in heat["maps"]) == 1.0


def kept() -> set[Path]:
    return {path for path in Path(os.environ["HEADSTART_CACHE"]).rglob("*.h5") if path.is_file()}


def test_a_second_page_is_the_same_and_runs_no_backbone(
    here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = here / "report/index.html"
    first, before = page.read_bytes(), kept()
    report.main()
    assert page.read_bytes() == first
    assert kept() == before
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    report.main()
    assert kept(), "an empty store must have been filled, or this test could not fail"
    assert page.read_bytes() == first


def test_the_command_writes_the_same_page_and_shows_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    assert cli.main(["report", "--output", "other/page.html", "--open"]) == 0
    assert shown == [Path("other/page.html").resolve().as_uri()]
    assert capsys.readouterr().out.startswith("other/page.html (")
    other, own = content(Path("other/page.html")), content(Path("report/index.html"))
    stamp = {name: other["run"].pop(name) for name in set(other["run"]) - set(own["run"])}
    assert other == own
    written = datetime.strptime(stamp.pop("written"), "%Y-%m-%d %H:%M %z")
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=5)
    assert stamp == {}, "there is no git repository"


def test_a_page_to_pass_on_names_the_commit_and_the_pipelines_own_does_not(here: Path) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    try:
        for command in (["init", "-q"], ["add", "params.yaml"], ["commit", "-qm", "one"]):
            subprocess.run([*git, *command], check=True)
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        assert cli.main(["report", "--output", "clean.html"]) == 0
        params = Path("params.yaml").read_text()
        Path("params.yaml").write_text(params + "\n# later\n")
        assert cli.main(["report", "--output", "edited.html"]) == 0
        Path("params.yaml").write_text(params)
        before = Path("report/index.html").read_bytes()
        assert cli.main(["report"]) == 0
    finally:
        shutil.rmtree(".git")
    assert content(Path("clean.html"))["run"]["commit"] == head.stdout[:12]
    assert content(Path("edited.html"))["run"]["commit"] == f"{head.stdout[:12]} + changes"
    assert Path("report/index.html").read_bytes() == before


def test_the_page_tells_source_and_parameters_without_anybodys_folders(
    here: Path, tmp_path: Path, photo_folder: Path
) -> None:
    for name in ("data", "features", "models", "metrics", "plots", "predictions"):
        shutil.copytree(name, tmp_path / name)
    params = Path("params.yaml").read_text()
    assert "source: photos" in params
    source = tmp_path / "photos"
    shutil.copytree("photos", source)
    (source / "warm" / "broken.jpg").write_bytes(b"broken")
    Image.new("RGB", (64, 64)).save(source / "warm" / "blank.png")
    params = params.replace("source: photos", f"source: {source}")
    params = params.replace("max_unreadable: 0.05", "max_unreadable: 0.5").replace(
        "share: 1.0", "share: 0.5"
    )
    params = params.replace("suspects: 0", "suspects: 5")
    with chdir(tmp_path):
        Path("params.yaml").write_text(params)
        for stage in (prepare, extract, train, audit, evaluate, report):
            stage.main()
        text, told = Path("report/index.html").read_text(), content(Path("report/index.html"))
    assert str(tmp_path) not in text
    assert str(Path.home()) + "/" not in text
    assert told["run"]["source"] == "photos"
    assert "  source: …/photos\n" in told["params"]
    assert {one["path"].split("/")[0] for one in told["pictures"]} == {"cold", "warm"}
    assert "\ncheck:" not in told["params"], "no stage reads it, so it may change unseen"
    assert told["data"]["quarantine"][0][0] == "warm/broken.jpg"
    suspects = {one["path"]: one["picture"] for one in told["look"]["suspects"]}
    assert {path.split("/")[0] for path in suspects} <= {"cold", "warm"}
    assert told["look"]["large"].keys() == set(map(str, suspects.values())), "from the real paths"
    assert suspects
    used = json.loads((tmp_path / "metrics/extract.json").read_text())["images"]
    assert told["used"] == used < 25
    facts = [one for step in told["steps"] for one in step["facts"]]
    assert {"text": "fact.share", "values": {"used": used, "n": 41, "share": 0.5}} in facts
    assert {"text": "fact.test_images", "values": {"n": 4}} in facts


def test_the_command_adds_the_last_comparison(here: Path) -> None:
    write_json(Path("plots/comparison.json"), COMPARISON)
    try:
        assert cli.main(["report", "--output", "compared.html"]) == 0
        report.main()
    finally:
        Path("plots/comparison.json").unlink()
    told = content(Path("compared.html"))["comparison"]
    assert [one["label"] for one in told["candidates"]] == ["big <b>", "small", "slow"]
    assert told["candidates"][0]["test"] == {"value": 0.95, "low": 0.95 - 0.1, "high": 1.0}
    assert told["dropped"] == [["tiny", 0.1, 0.6]]
    text = Path("compared.html").read_text()
    assert "big &lt;b&gt;" in text
    assert "Failed: broken." in text
    # What no stage writes is no part of a stage's output.
    assert content(Path("report/index.html"))["comparison"] is None


def test_a_comparison_of_another_form_is_told(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(Path("plots/comparison.json"), COMPARISON | {"schema": 9})
    try:
        assert cli.main(["report", "--output", "compared.html"]) == 1
    finally:
        Path("plots/comparison.json").unlink()
    assert "plots/comparison.json: expected a comparison of schema 1" in capsys.readouterr().err


def test_a_photo_that_changed_since_is_told(here: Path, tmp_path: Path) -> None:
    shutil.copytree(here, tmp_path / "copy")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "copy")
        patch.setenv("HEADSTART_CACHE", str(tmp_path / "store"))
        row = next(row for row in read_manifest(Path("data/manifest.csv")) if row.split == "test")
        for one in read_manifest(Path("data/manifest.csv")):
            if one.split == "test" and one.path != row.path:
                shutil.copy(row.path, one.path)
        with pytest.raises(InputError, match=r"the file has changed: .*dvc repro prepare"):
            report.main()


@pytest.fixture(scope="module")
def odd_names(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run once more, with heads that are called what means something elsewhere."""
    root = tmp_path_factory.mktemp("odd") / "project"
    shutil.copytree(project, root)
    yaml = YAML()
    params = yaml.load(root / "params.yaml")
    params["train"]["heads"] = {"finetuned": {"kind": "ridge"}, "selected": {"kind": "prototype"}}
    # From scratch, so that it cannot end where its head stood.
    params["finetune"] |= {"unfreeze": "scratch", "head": "finetuned", "epochs": 1}
    yaml.dump(params, root / "params.yaml")
    with chdir(root):
        for stage in (train, novelty, finetune, evaluate, report):
            stage.main()
    return root


def test_no_name_of_a_head_is_reserved(
    odd_names: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(odd_names)
    names = ["finetuned", "selected"]
    assert list(json.loads(Path("metrics/heads.json").read_text())) == names
    assert sorted(path.name for path in Path("models/heads").iterdir()) == names
    test = json.loads(Path("metrics/test.json").read_text())
    assert list(test["heads"]) == names
    assert test["finetuned"]["gain"]["over"] == "finetuned"
    told = content(Path("report/index.html"))
    assert [head["name"] for head in told["heads"]] == [*names, FINETUNED]
    assert told["selected"] == test["selected"]["head"]
    assert [step["stage"] for step in told["steps"]][2:] == ["train", "finetune", "evaluate"]
    assert told["steps"][3]["facts"][0]["text"] == "fact.cut_nowhere"
    accuracies = [head["scores"]["test"]["accuracy"]["value"] for head in told["heads"]]
    expected = [*test["heads"].values(), test["finetuned"]]
    assert accuracies == [scores["accuracy"] for scores in expected]
    assert cli.main(["scores", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["heads"]) == {*names, FINETUNED}


def test_predict_tells_a_head_called_finetuned_from_the_fine_tuned_model(
    odd_names: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(odd_names)
    answers = []
    for which in (
        ["--head", "finetuned"],
        ["--model", "models/heads/finetuned"],
        ["--model", "models/finetuned"],
        ["--head", "selected"],
    ):
        assert cli.main(["predict", *which, "--format", "json", "photos/warm/00.jpg"]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert len(set(answers)) == 3
    assert cli.main(["predict", "--format", "json", "photos/warm/00.jpg"]) == 0
    chosen = json.loads(Path("metrics/test.json").read_text())["selected"]["head"]
    index = {"finetuned": 0, "selected": 3, FINETUNED: 2}[chosen]
    assert capsys.readouterr().out == answers[index]
