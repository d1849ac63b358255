import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from headstart.common.places import PRETRAINED
from pipeline import pretrain

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LENET = {"backbone": "LeNet5", "seed": 0, "epochs": 2}
BLIND = {"backbone": "LeNet5", "seed": 0, "epochs": 1, "objective": "reconstruct"}


class PretrainProject:
    """A folder with params.yaml, a cache of its own, and what the stage wrote at first."""

    def __init__(self, root: Path, source: Path) -> None:
        self.root, self.source = root, source
        self.first: dict[str, bytes] = {}

    def write(self, **runs: dict[str, Any]) -> None:
        """Write params.yaml."""
        with (self.root / "params.yaml").open("w") as file:
            YAML(typ="safe").dump({"pretrain": {"source": str(self.source), "runs": runs}}, file)

    def run(self, **runs: dict[str, Any]) -> dict[str, bytes]:
        """Write params.yaml and run the stage; return the files it wrote."""
        self.write(**runs)
        pretrain.main()
        return {path.name: path.read_bytes() for path in (self.root / PRETRAINED).iterdir()}


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, photo_folder: Path
) -> Iterator[PretrainProject]:
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("HEADSTART_CACHE", str(root / "cache"))
        made = PretrainProject(root, photo_folder)
        made.first = made.run(lenet=LENET, blind=BLIND)
        yield made


def test_weights_cards_and_the_list_are_written(project: PretrainProject) -> None:
    names = {"lenet.weights.h5", "lenet.json", "blind.weights.h5", "blind.json", "runs.sha256.json"}
    assert set(project.first) == names
    card = json.loads(project.first["lenet.json"])
    assert card["source"] == str(project.source)
    assert card["class_names"] == ["cold", "warm"]
    assert card["images"] == {"train": 32, "validation": 8, "unreadable": 0}
    assert card["scores"].keys() == {"accuracy", "chance_accuracy"}
    blind = json.loads(project.first["blind.json"])
    assert blind["class_names"] == []
    digests = {name: made["weights_sha256"] for name, made in (("lenet", card), ("blind", blind))}
    assert json.loads(project.first["runs.sha256.json"]) == digests


def test_the_edit_of_a_run_trains_that_one_alone(
    project: PretrainProject, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = project.run(lenet={**LENET, "seed": 1}, blind=BLIND)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" in ")[0] for line in lines] == [
        "blind: taken over, nothing that decides it has changed",
        "lenet: trained",
    ]
    assert edited["lenet.weights.h5"] != project.first["lenet.weights.h5"]
    assert edited["blind.weights.h5"] == project.first["blind.weights.h5"]
    assert project.run(lenet=LENET, blind=BLIND) == project.first


def test_a_run_alone_gives_the_same_bytes(
    project: PretrainProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(project.root / "another"))
    alone = project.run(blind=BLIND)
    assert set(alone) == {"blind.weights.h5", "blind.json", "runs.sha256.json"}
    assert alone["blind.weights.h5"] == project.first["blind.weights.h5"]
    assert alone["blind.json"] == project.first["blind.json"]


@pytest.mark.parametrize(
    ("runs", "unneeded"),
    [({}, {"tensorflow", "keras", "numpy"}), ({"blind": BLIND}, {"tensorflow", "keras", "scipy"})],
)
def test_what_trains_nothing_imports_little(
    project: PretrainProject, runs: dict[str, Any], unneeded: set[str]
) -> None:
    project.write(**runs)
    code = (
        "import sys; from pipeline.pretrain import main; main()\n"
        f"assert not {unneeded} & {{*sys.modules}}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listed = json.loads((project.root / PRETRAINED / "runs.sha256.json").read_text())
    assert listed.keys() == runs.keys()
