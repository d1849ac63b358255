"""The command line: what it lists, what it imports, how it fails."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from ruamel.yaml import YAML

from headstart.commands import cli

ROOT = Path(__file__).parents[3]


def test_every_name_has_a_line_of_help() -> None:
    assert tuple(cli.COMMANDS) == get_args(cli.CommandName)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: headstart {command}")
    assert "options:" in printed


def test_help_lists_the_commands_and_imports_none_of_them() -> None:
    code = (
        "import sys; from headstart.commands import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'numpy', 'sklearn', 'openvino', 'cv2', 'dvc'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in cli.COMMANDS)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("predikt", "did you mean predict?"),
        ("train", "train is a stage: `dvc repro train` runs it"),
        ("zzz", "`headstart --help` lists them"),
    ],
)
def test_an_unknown_command_is_answered_with_what_was_meant(
    word: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([word, "--head", "x"])
    assert stopped.value.code == 2
    assert f"error: there is no command {word!r}; {hint}" in capsys.readouterr().err


def test_no_command_at_all_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    shown = capsys.readouterr().err
    assert all(f"\n    {command}" in shown for command in cli.COMMANDS)


def test_stages_that_are_named_are_those_of_the_pipeline() -> None:
    pipeline = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    assert {*cli.STAGES} == {*pipeline["stages"]} - {"sample", *cli.COMMANDS}


def test_a_deliberate_error_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["scores"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: metrics/test.json: no such file: run from a project's folder")
    assert told.count("\n") == 1
