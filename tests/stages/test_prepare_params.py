"""The first stage reads the whole of params.yaml: a mistake anywhere stops `dvc repro` at once."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from headstart.common.errors import InputError
from headstart.finetuning import plan
from pipeline import prepare

ROOT = Path(__file__).parents[2]
COSTS = "evaluate.costs: no class is called wram; the classes are cold, warm"


@pytest.fixture
def mistaken(tmp_path: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a params.yaml with values by dotted key, for two classes of photos and LeNet5."""
    monkeypatch.chdir(tmp_path)
    Path("photos").symlink_to(photo_folder)

    def write(changes: dict[str, Any]) -> None:
        params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["prepare"]["source"] = "photos"
        params["extract"] |= {"backbone": "LeNet5", "weights": "random"}
        for dotted, value in changes.items():
            *sections, key = dotted.split(".")
            place = params
            for name in sections:
                place = place[name]
            place[key] = value
        YAML(typ="safe").dump(params, Path("params.yaml"))

    return write


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.sede": 1}, "train.sede: unknown key"),
        ({"evalute": {}}, "evalute: unknown key"),
        ({"report.pictures": -1}, "report.pictures: Input should be greater than or equal to 0"),
        ({"extract.backbone": "LeNet"}, "extract.backbone: there is no 'LeNet' .*mean LeNet5"),
        ({"extract.weights": "pretrained"}, "extract.weights: nobody publishes .* for LeNet5"),
        ({"extract.weights": "models/weights/a.h5"}, r"extract.weights: .*a\.h5: no such file"),
        (
            {"extract.weights": "models/pretrained/a.weights.h5"},
            r"extract.weights: expected what one of pretrain.runs \(there is none\) writes",
        ),
        ({"extract.image_size": 8}, "extract.image_size: LeNet5 takes images .* received 8 x 8"),
        ({"extract.pooling": "cls"}, "extract.pooling: LeNet5 gives maps"),
        ({"extract.layer": "c9"}, "extract.layer: there is no layer 'c9'; cuts near it: "),
        ({"extract.layer": "atuo"}, "extract.layer: .*did you mean auto"),
        ({"finetune.unfreeze": "last_blok"}, "finetune.unfreeze: .*did you mean last_block"),
        (
            {"finetune.unfreeze": "all", "finetune.stages": [{"unfreeze": "c55", "epochs": 1}]},
            r"finetune.stages.0.unfreeze: there is no layer 'c55'; cuts near it: c5",
        ),
        (
            {"finetune.unfreeze": "c5", "finetune.stages": [{"unfreeze": "all", "epochs": 1}]},
            "finetune.stages: expected every step to unfreeze as much as the one before",
        ),
        (
            {"finetune.unfreeze": "c5", "extract.layer": "s2"},
            "finetune.unfreeze: there is no layer 'c5'; cuts near it: c1 .* all 2",
        ),
        (
            {"finetune.unfreeze": "all", "finetune.head": "logistc"},
            "finetune.head: expected one of train.heads .*logistic.* received logistc",
        ),
        (
            {"pretrain.runs": {"a": {"backbone": "LeNet", "seed": 0}}},
            "pretrain.runs.a.backbone: there is no 'LeNet' in the catalog; did you mean LeNet5",
        ),
        ({"train.heads": {"zero_shot": {}}}, "train.heads.zero_shot needs text vectors of the cl"),
        ({"train.class_weight": {"wram": 2.0}}, "train.class_weight: no class is called wram"),
        ({"evaluate.costs": {"warm": {"wram": 2.0}}}, COSTS),
        ({"evaluate.slices": ["camera"]}, "evaluate.slices: expected columns of prepare.source"),
    ],
)
def test_a_mistake_in_any_section_stops_the_first_stage(
    mistaken: Any, changes: dict[str, Any], message: str
) -> None:
    mistaken(changes)
    with pytest.raises(InputError, match=rf"^params\.yaml: {message}"):
        prepare.main()


def test_layers_that_are_there_are_looked_for_once(
    mistaken: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "store"))
    mistaken({"finetune.unfreeze": "s4", "extract.layer": "c5"})
    prepare.main()
    monkeypatch.delattr(plan, "plan_steps")
    prepare.main()
    mistaken({"finetune.unfreeze": "s2", "extract.layer": "c5"})
    with pytest.raises(ImportError, match="plan_steps"):
        prepare.main()


def test_weights_that_a_run_will_write_need_not_be_there_yet(mistaken: Any) -> None:
    weights = "models/pretrained/mine.weights.h5"
    mistaken(
        {"extract.weights": weights, "pretrain.runs": {"mine": {"backbone": "LeNet5", "seed": 0}}}
    )
    prepare.main()
    assert Path("data/manifest.csv").is_file()


def test_without_a_named_layer_no_network_is_built(mistaken: Any) -> None:
    mistaken({"finetune.unfreeze": "last_block"})
    code = (
        "import sys; from pipeline import prepare; prepare.main()\n"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_sections_of_the_user_s_own_stages_are_left_alone(mistaken: Any) -> None:
    mistaken({})
    with Path("params.yaml").open("a") as file:
        file.write("plotting:\n  width: 3\n")
    prepare.main()
    assert Path("data/manifest.csv").is_file()
