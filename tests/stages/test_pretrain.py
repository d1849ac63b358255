import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from headstart.common.errors import InputError
from pipeline import pretrain


@pytest.fixture
def project(tmp_path: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty project; call it with the section pretrain."""
    monkeypatch.chdir(tmp_path)

    def write(section: dict[str, Any]) -> None:
        params = YAML(typ="safe").load(Path(__file__).parents[2] / "params.yaml")
        params["pretrain"] = section
        with (tmp_path / "params.yaml").open("w") as file:
            YAML(typ="safe").dump(params, file)

    write({"lenet": {"source": str(photo_folder), "backbone": "LeNet5", "seed": 0, "epochs": 2}})
    return write


def test_weights_and_a_card_are_written_the_same_each_time(project: Any) -> None:
    pretrain.main(["lenet"])
    folder = Path("models/pretrained")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {"lenet.weights.h5", "lenet.json"}
    card = json.loads(files["lenet.json"])
    assert card["class_names"] == ["cold", "warm"]
    assert card["images"] == {"train": 32, "validation": 8, "unreadable": 0}
    assert card["scores"].keys() == {"accuracy", "chance_accuracy"}
    pretrain.main(["lenet"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


@pytest.mark.parametrize("arguments", [[], ["other"], ["lenet", "more"]])
def test_the_name_of_a_run_is_needed(project: Any, arguments: list[str]) -> None:
    with pytest.raises(InputError, match=r"pretrain: expected the name of one run .* \(lenet\)"):
        pretrain.main(arguments)


def test_a_name_that_is_no_file_name_is_refused(project: Any) -> None:
    project({"../up": {"source": "x", "backbone": "LeNet5", "seed": 0}})
    with pytest.raises(InputError, match=r"'\.\./up' names files, so use letters"):
        pretrain.main(["../up"])


def test_what_the_backbone_cannot_take_is_told(project: Any, photo_folder: Path) -> None:
    section = {"source": str(photo_folder), "backbone": "UNet", "seed": 0, "image_size": 100}
    project({"unet": section})
    with pytest.raises(InputError, match="UNet takes images .* a multiple of 16"):
        pretrain.main(["unet"])
