"""The command line: what it lists, what it imports, how it fails."""

import json
import subprocess
import sys

import pytest

from headstart.commands import cli


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: headstart {command}")
    assert "options:" in printed


def test_help_lists_the_commands_and_imports_none_of_them():
    code = (
        "import sys; from pipeline import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'numpy', 'sklearn', 'openvino', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in cli.COMMANDS)


def test_an_unknown_command_exits_with_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["predikt"])
    assert stopped.value.code == 2
    assert "predikt" in capsys.readouterr().err


def test_a_deliberate_error_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["scores"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: metrics/test.json not found")
    assert "run `dvc repro` first" in told


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_and_options(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "backbones" in script
    assert "--offline" in script


@pytest.fixture
def finished_run(tmp_path, monkeypatch):
    """The metrics of a run with two heads."""
    test = {
        "accuracy": 0.9, "balanced_accuracy": 0.8, "macro_f1": 0.7, "log_loss": 0.25,
        "intervals": {"accuracy": [0.85, 0.95]},
    }  # fmt: skip
    (tmp_path / "metrics").mkdir()
    for name in ("gap", "linear_svc"):
        (tmp_path / "metrics" / f"{name}.json").write_text('{"validation": {"accuracy": 0.875}}')
    selected = {**test, "head": "gap", "tie": True, "runner_up": "linear_svc"}
    cost = {"feature_dim": 1280, "multiply_adds": 385_100_000, "parameters": 3_400_000}
    content = {"gap": test, "linear_svc": test, "selected": selected, "cost": cost}
    (tmp_path / "metrics" / "test.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("finished_run")
def test_scores_shows_every_head_and_the_chosen_one(capsys):
    assert cli.main(["scores"]) == 0
    printed = capsys.readouterr().out
    (row,) = [line for line in printed.splitlines() if line.strip().startswith("gap *")]
    assert row.split()[2:] == ["0.875", "0.900", "0.850-0.950", "0.800", "0.700", "0.250"]
    assert "Selected on validation: gap, a tie with linear_svc" in printed
    assert "models/gap/" in printed
    assert "1,280 per image, from 385.1 M multiply-adds and 3.4 M parameters" in printed


@pytest.mark.usefixtures("finished_run")
def test_scores_as_json(capsys):
    assert cli.main(["scores", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["heads"]["linear_svc"]["validation"]["accuracy"] == 0.875
    assert content["selected"]["head"] == "gap"
    assert content["cost"]["multiply_adds"] == 385_100_000
