import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from headstart.commands.cli import main
from tests import onnx_graphs


def table(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    assert main(["backbones", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]


def cuts(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    """Return the cells of each line below the headings."""
    assert main(["backbones", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    (rule,) = [number for number, line in enumerate(lines) if line.startswith("──")]
    return [re.split(" {2,}", line.strip()) for line in lines[rule + 1 :]]


def test_the_table_shows_what_keras_documents(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row[0]: row for row in table(capsys)}
    assert len(rows) == 120
    assert rows["Xception"][1:4] == ["88", "79.0%", "94.5%"]
    assert rows["Xception"][6:9] == ["22.9 M", "81", "299 x 299"]
    assert rows["ConvNeXtTiny"][1:8] == ["109.42", "81.3%", "-", "-", "-", "28.6 M", "-"]
    assert rows["LeNet5"][-3:] == ["no weights", "none published", ""]
    assert rows["EfficientNetLite0"][-1] == "yes"


def test_figures_of_frozen_features_and_licenses_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = {row[0]: row for row in table(capsys)}
    assert rows["DINOv2Small"][2:7] == ["-", "-", "81.1%", "-", "22.1 M"]
    assert rows["CLIPBase32"][4:6] == ["76.1%", "63.2%"]
    assert rows["VGG16"][-3] == "CC-BY-4.0"


def test_terms_of_a_license_of_its_own_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backbones", "dinov3"]) == 0
    assert capsys.readouterr().out.count("DINOv3's weights come under Meta's DINOv3 License") == 1
    assert main(["backbones", "dinov2"]) == 0
    assert "come under" not in capsys.readouterr().out


def test_columns_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backbones", "dino"]) == 0
    title = capsys.readouterr().out.splitlines()[1]
    assert "probe" in title
    assert not any(name in title for name in ("top-1", "top-5", "zero-shot", "depth"))


def test_a_name_filters_and_a_column_sorts(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(capsys, "efficientnetv2", "--sort", "size_mb", "--descending")
    assert [row[0][-2:] for row in rows] == ["2L", "2M", "2S", "B3", "B2", "B1", "B0"]


def test_what_is_unknown_is_sorted_last(capsys: pytest.CaptureFixture[str]) -> None:
    for order in ([], ["--descending"]):
        depths = [row[7] for row in table(capsys, "--sort", "depth", *order)]
        known = [depth for depth in depths if depth != "-"]
        assert depths == known + ["-"] * (len(depths) - len(known))
        assert [int(depth) for depth in known] == sorted(map(int, known), reverse=bool(order))


def test_what_is_usable_offline_can_be_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    lite = [f"EfficientNetLite{number}" for number in range(3)]
    assert [row[0] for row in table(capsys, "--offline")] == lite
    (tmp_path / "models").mkdir()
    file = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    (tmp_path / "models" / file).write_bytes(b"")
    assert [row[0] for row in table(capsys, "--offline")] == [*lite, "VGG16"]


def test_json_has_every_fact(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backbones", "vgg16", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry == {
        "name": "VGG16",
        "family": "VGG16",
        "size_mb": 528.0,
        "top1": 0.713,
        "top5": 0.901,
        "linear_probe": None,
        "zero_shot": None,
        "figure_source": None,
        "parameters": 138_357_544,
        "depth": 16,
        "image_size": [224, 224],
        "min_size": 32,
        "feature_dim": 512,
        "preprocessing": "caffe",
        "license": "CC-BY-4.0",
        "terms": None,
        "weights": "Keras download",
        "offline": entry["offline"],
        "source": "Simonyan and Zisserman 2015, arXiv:1409.1556",
    }


def test_a_narrow_terminal_gets_fewer_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["backbones", "vgg"]) == 0
    shown = capsys.readouterr().out
    assert "138.4 M" in shown
    assert "CC-BY-4.0" in shown
    table, _, rest = shown.partition("Left out for want of room: ")
    assert "smallest" not in table
    assert rest.startswith("smallest, preprocessing")


def test_cuts_keep_their_whole_names_where_there_is_little_room(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    rows = cuts(capsys, "LeNet5", "--cuts")
    assert rows[2] == ["c3", "10 x 10 x 16", "5.1%", "88.2%"]
    left_out = "Left out for want of room: parameters above, multiply-adds above (--json)"
    assert rows[-1] == [left_out]


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_the_whole_table_has_a_line_per_backbone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = table(capsys)
    assert len(rows) == 120
    assert not any("…" in cell for row in rows for cell in row)


def test_cuts_are_listed_with_shapes_and_shares(capsys: pytest.CaptureFixture[str]) -> None:
    rows = cuts(capsys, "LeNet5", "--cuts")
    assert [row[0] for row in rows] == ["c1", "s2", "c3", "s4", "c5"]
    assert rows[2][1:] == ["10 x 10 x 16", "5.1%", "94.9%", "88.2%", "11.8%"]
    assert cuts(capsys, "LeNet5", "--cuts", "--image-size", "36", "40")[-1][1] == "2 x 3 x 120"


def test_cuts_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backbones", "LeNet5", "--cuts", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[0] == {
        "name": "c1",
        "shape": [28, 28, 6],
        "parameters_below": 156,
        "parameters_above": 50_536,
        "multiply_adds_below": 117_600,
        "multiply_adds_above": 288_000,
        "merges": False,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vgg61"], "there is no 'vgg61' in the catalog; did you mean VGG19 or VGG16?"),
        (["--cuts"], "--cuts needs the name of one backbone"),
        (["VGG", "--cuts"], "there is no 'VGG' in the catalog; did you mean VGG1"),
        (["VGG16", "--image-size", "64"], "--image-size belongs to --cuts"),
        (["VGG16", "--cuts", "--image-size", "1", "2", "3"], "one side, or height and width"),
        (["VGG16", "--cuts", "--image-size", "16"], "at least 32 pixels, received 16 x 16"),
    ],
)
def test_wrong_arguments_are_told(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["backbones", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_the_table_needs_no_tensorflow() -> None:
    code = (
        "import sys; from headstart.commands.cli import main; main(['backbones']); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_an_onnx_file_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(onnx_graphs.conv_net(tmp_path / "net.onnx"))
    assert main(["backbones", path]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  input images: any x 3 x 32 x 32",
        "  output logits: any x 5",
    ]
    assert main(["backbones", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"] == {"images": [None, 3, 32, 32]}


def test_tensors_that_all_paths_cross(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(onnx_graphs.conv_net(tmp_path / "net.onnx"))
    assert main(["backbones", path, "--cuts", "--json"]) == 0
    cuts = json.loads(capsys.readouterr().out)
    # The branch of the residual is none.
    assert {cut["name"]: cut["shape"] for cut in cuts} == {
        "stem": [16, 16, 8],
        "stem_relu": [16, 16, 8],
        "block": [16, 16, 8],
        "pool": [1, 1, 8],
        "flat": [8],
        "logits": [5],
    }
    assert main(["backbones", path, "--cuts"]) == 0
    assert "16 x 16 x 8" in capsys.readouterr().out


def test_onnx_is_no_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backbones", "onnx"]) == 1
    assert "`headstart backbones model.onnx` tells" in capsys.readouterr().err
