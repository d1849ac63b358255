"""Every command after every kind of run, and where nothing has run.

Stages and commands run in this process, since TensorFlow takes seconds to start; the project is one
that `headstart init` made, so that `dvc` reads what a user's reads.
"""

import csv
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from dvc.cli import main as dvc
from PIL import Image
from ruamel.yaml import YAML

from headstart.commands.cli import COMMANDS, main
from headstart.dataset.manifest import read_manifest
from pipeline import audit, evaluate, extract, finetune, novelty, prepare, pretrain, report, train
from tests import onnx_graphs

pytestmark = pytest.mark.slow

STAGES = (prepare, pretrain, extract, train, novelty, audit, finetune, evaluate, report)
CLASSES = ("cat", "dog", "owl")
HEADS = {"logistic": {}, "dense": {"units": [8], "epochs": 2}}


def _write_photos(folder: Path, per_class: int, seed: int = 0) -> None:
    """Write noise of one hue per class, 32 x 32."""
    rng = np.random.default_rng(seed)
    for channel, label in enumerate(CLASSES):
        (folder / label).mkdir(parents=True)
        for number in range(per_class):
            pixels = rng.integers(0, 160, (32, 32, 3), dtype=np.uint8)
            pixels[..., channel] += 80
            Image.fromarray(pixels).save(folder / label / f"{number}.png")


def _twelve() -> None:
    _write_photos(Path("photos"), 12)


def _one_each() -> None:
    _write_photos(Path("photos"), 1)


def _no_test() -> None:
    _write_photos(Path("photos/train"), 6)
    _write_photos(Path("photos/validation"), 3, seed=1)


def _exported() -> None:
    _twelve()
    onnx_graphs.conv_net(Path("models/weights/net.onnx"))


def _corrected() -> None:
    """Leave a file that says of two photos what the report's page would."""
    _twelve()
    prepare.main()
    manifest = read_manifest(Path("data/manifest.csv"))
    one, other = [row for row in manifest if row.split == "train"][:2]
    rows = [(one.sha256, "relabel", "owl", ""), (other.sha256, "drop", "", "blurred")]
    with Path("corrections.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("sha256", "action", "label", "note"), *rows])


class Asked(NamedTuple):
    """A command line, and what becomes of it.

    Attributes:
        line: The words after `headstart`.
        says: Pattern of what it prints.
        status: Its exit status.
    """

    line: str
    says: str
    status: int = 0


Ask = Callable[..., None]

PHOTO = "new/cat/0.png"
ASKED = {
    "scores": Asked("scores", r"logistic \*?.*\n(.*\n)*Selected"),
    "scores, JSON": Asked("scores --json", r'"selected": \{'),
    "check": Asked("check", r"accuracy >= 0.*holds|no value for it"),
    "report": Asked("report", r"report/index\.html \(\d\.\d MB\)"),
    "predict": Asked(f"predict {PHOTO}", r"new/cat/0\.png .*(cat|dog|owl|unlike)"),
    "predict a head": Asked(f"predict {PHOTO} --head logistic --format json", r'"class": '),
    "predict by a misspelled head": Asked(
        f"predict {PHOTO} --head logistc", r"expected one of .*logistic.*did you mean logistic\?", 1
    ),
    "export": Asked("export --format openvino", r"model\.xml: .* largest difference"),
    "export a misspelled head": Asked(
        "export --format openvino --head logistc", r"did you mean logistic\?", 1
    ),
    "audit": Asked("audit --suspects 3", r"\d+ images: .*\n(.*\n)*data/audit\.csv"),
    "verify": Asked("verify", r"\d+ images: all as they were"),
    "suggest": Asked("suggest new --count 2", r"2 suggested: \d typical, \d uncertain"),
    "advise": Asked("advise --minutes 0", r"Recommended: "),
    "augment": Asked(f"augment {PHOTO} --views 2", r"views\.png: 2 views of 1 image at 32 x 32"),
    "backbones": Asked("backbones LeNet", r"LeNet5 .*none published"),
    "parts plan": Asked("parts plan --count 2", r"2 parts|part"),
    "parts status": Asked("parts status", r"0 remain|nothing remains|part"),
    "cache info": Asked("cache info", r"LeNet5 32 x 32|onnx 32 x 32"),
    "cache verify": Asked("cache verify", r"\d+ vectors .* are sound; 0 files"),
    "upgrade": Asked("upgrade --dry-run", r"nothing to do|Nothing is written"),
    "completion": Asked("completion bash", r"headstart"),
}


@dataclass
class Kind:
    """A kind of run.

    Attributes:
        params: Values of params.yaml by dotted key.
        photos: Writes what it learns from.
        shows: Pattern that `headstart scores` prints, which proves that it is of this kind.
        other: What commands do otherwise than in `ASKED`.
    """

    params: dict[str, Any] = field(default_factory=dict)
    photos: Callable[[], None] = _twelve
    shows: str = r"logistic"
    other: dict[str, Asked] = field(default_factory=dict)


KINDS = {
    "heads": Kind(
        {"train.heads": {**HEADS, "gap": {"epochs": 2}, "linear_svc": {}, "knn": {}, "ridge": {}}},
        shows=r"linear_svc.*\n(.*\n)*Selected on",
    ),
    "last block": Kind({"finetune": {"unfreeze": "last_block"}}, shows="fine-tuned model"),
    "all, selected": Kind(
        # So much shrinkage leaves the head no better than a guess.
        {
            "train.heads": {"logistic": {"l2": 1e9}},
            "finetune": {"unfreeze": "all", "learning_rate": 1e-2, "epochs": 8},
        },
        shows=r"fine-tuned model \*",
    ),
    "scratch": Kind(
        {"train.heads": HEADS, "finetune": {"unfreeze": "scratch", "head": "dense"}},
        shows="fine-tuned model",
    ),
    "views": Kind({"extract.augment.views": 2}),
    "maps": Kind(
        {"extract.pooling": "none", "train.heads": {**HEADS, "gap": {"epochs": 2}}}, shows="gap"
    ),
    "corrections": Kind({"prepare.corrections": "corrections.csv"}, photos=_corrected),
    "audit": Kind({"audit.suspects": 5}),
    "shots": Kind({"train.shots": 2, "train.repeats": 2}, shows="over 2 draws"),
    "no test image": Kind(
        {"prepare.test": 0.0},
        photos=_no_test,
        shows="No test image: there are no test scores",
        other={"check": Asked("check", "no test image", 1)},
    ),
    "one image per class": Kind(
        photos=_one_each,
        shows="the first in params.yaml",
        other={
            "check": Asked("check", "no test image", 1),
            "advise": Asked("advise", "of no class can one be", 1),
        },
    ),
    "ONNX": Kind(
        {
            "extract.backbone": "onnx",
            "extract.weights": "models/weights/net.onnx",
            "extract.layer": "block",
            "train.heads": {"logistic": {}},
        },
        photos=_exported,
        other={"advise": Asked("advise", "that of an ONNX file .* cannot be trained", 1)},
    ),
}


def _edit(changes: dict[str, Any]) -> None:
    yaml, path = YAML(), Path("params.yaml")
    params = yaml.load(path)
    for dotted, value in changes.items():
        *sections, key = dotted.split(".")
        place = params
        for name in sections:
            place = place[name]
        place[key] = {**place[key], **value} if dotted == "finetune" else value
    yaml.dump(params, path)


def _make_project(root: Path) -> None:
    """Make a project as a user does, on photos of its own, with a small backbone."""
    with chdir(root):
        assert main(["init", "--no-scm"]) == 0
        _edit(
            {
                "prepare.source": "photos",
                "extract.backbone": "LeNet5",
                "extract.weights": "random",
                "train.heads": {"logistic": {}},
                "finetune": {"batch_size": 8, "epochs": 1},
                "check.promises": ["accuracy >= 0"],
                "report.projections": ["pca"],
                "report.heat_maps": 2,
            }
        )
        _write_photos(Path("new"), 2, seed=2)


@pytest.fixture(scope="module", params=KINDS)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    """Be in a project in which all stages have run."""
    kind = KINDS[request.param]
    root = tmp_path_factory.mktemp("project")
    _make_project(root)
    with chdir(root):
        kind.photos()
        _edit(kind.params)
        for stage in STAGES:
            stage.main()
        yield kind


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command and hold what it says against what is expected."""

    def run(asked: Asked, program: Callable[[list[str]], int] = main) -> None:
        capsys.readouterr()
        status = program(asked.line.split())
        printed = "".join(capsys.readouterr())
        assert status == asked.status, printed
        assert "Traceback" not in printed
        assert re.search(asked.says, printed), printed

    return run


def test_no_command_is_left_out() -> None:
    # `init` makes the projects here. `compare` needs git and runs stages anew, one kind of run or
    # another: tests/e2e/test_compare.py.
    assert {asked.line.split()[0] for asked in ASKED.values()} | {"init", "compare"} == {*COMMANDS}


@pytest.mark.parametrize("name", ASKED)
def test_a_command_after_a_run(ran: Kind, name: str, ask: Ask) -> None:
    ask(ran.other.get(name, ASKED[name]))


def test_the_scores_are_of_that_kind_of_run(ran: Kind, ask: Ask) -> None:
    ask(Asked("scores", ran.shows))


def test_dvc_shows_metrics_and_plots(ran: Kind, ask: Ask) -> None:
    ask(Asked("metrics show", r"metrics/summary\.json"), dvc)
    ask(Asked("plots show", r"dvc_plots/index\.html"), dvc)
    page = Path("dvc_plots/index.html").read_text(encoding="utf-8")
    assert "workspace_plots_views.png" in page


ANYWHERE = ("backbones", "cache info", "cache verify", "completion")
"""Commands that need no project."""


def test_a_command_before_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "store"))
    _make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    _twelve()
    without = {*ANYWHERE, "augment", "suggest", "upgrade"}
    for name, asked in ASKED.items():
        if name == "cache info":
            ask(asked._replace(says="0 B to prune"))
        elif name in without:
            ask(asked)
        else:
            ask(asked._replace(says=r"^error: .*no such file: .*run `dvc repro", status=1))
    assert main(["predict", "gone.jpg"]) == 1


def test_a_command_in_a_clone_that_has_the_metrics_alone(
    ran: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    """Git keeps metrics; features, models and all scores are DVC's to keep."""
    outputs = shutil.ignore_patterns("heads.json", "finetune.json", "test.json")
    shutil.copytree("metrics", tmp_path / "metrics", ignore=outputs)
    for name in (".dvc", "pipeline"):
        shutil.copytree(name, tmp_path / name)
    for name in ("params.yaml", "dvc.yaml", "headstart.lock"):
        shutil.copy(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    ask(Asked("scores", r"`dvc metrics show` prints .*run `dvc repro` .*or `dvc pull`", 1))
    ask(Asked("metrics show", r"metrics/summary\.json"), dvc)
    for name in ("report", "predict", "predict a head", "export", "audit", "verify", "advise"):
        ask(Asked(ASKED[name].line, r"^error: .*no such file: .*run `dvc repro", 1))


def test_a_command_outside_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    monkeypatch.chdir(tmp_path)
    _write_photos(Path("new"), 1)
    for name, asked in ASKED.items():
        if name in ANYWHERE:
            ask(asked)
        else:
            says = r"run from a project's folder, which .*`headstart init FOLDER --source PHOTOS`"
            ask(asked._replace(says=says, status=1))


def test_a_command_in_a_folder_of_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    _make_project(tmp_path)
    monkeypatch.chdir(tmp_path / "new" / "cat")
    ask(Asked("scores", r"run from a project's folder, .*: that is `cd \.\./\.\.` from here", 1))
