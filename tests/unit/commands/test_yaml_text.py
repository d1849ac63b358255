from pathlib import Path

from ruamel.yaml import YAML

from headstart.commands.yaml_text import changed

PARAMS = Path(__file__).parents[3] / "params.yaml"


def test_params_keep_their_comments() -> None:
    text = PARAMS.read_text()
    before = YAML(typ="safe").load(text)
    changes = {
        "finetune.unfreeze": "last_block",
        "finetune.learning_rate": 3e-4,
        "extract.layer": "block5c_add",
        "train.heads.logistic.l2": 0.01,
        "train.heads.probe.l2": 0.5,
    }
    after = changed(text, changes)
    expected = before | {
        "finetune": before["finetune"] | {"unfreeze": "last_block", "learning_rate": 3e-4},
        "extract": before["extract"] | {"layer": "block5c_add"},
    }
    expected["train"]["heads"]["logistic"]["l2"] = 0.01
    expected["train"]["heads"]["probe"] = {"l2": 0.5}
    assert YAML(typ="safe").load(after) == expected
    old, new = text.splitlines(), after.splitlines()
    assert len(new) == len(old) + 2
    assert sum(line not in new for line in old) == 4
    comments = [line[line.index("#") :] for line in old if "#" in line]
    assert comments == [line[line.index("#") :] for line in new if "#" in line]


def test_params_that_say_it_already_stay_as_they_are() -> None:
    text = PARAMS.read_text()
    assert changed(text, {"finetune.unfreeze": "none", "train.shots": None}) == text
