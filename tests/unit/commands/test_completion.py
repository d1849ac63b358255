"""What a shell offers after a tab, asked of bash itself as bash asks."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import shtab

from headstart import catalog
from headstart.commands import cli
from headstart.commands.export.formats import FORMATS

Complete = Callable[..., list[str]]

_ASK = r"""
source ./script
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
specification=$(complete -p headstart)
[[ $specification =~ -F\ ([^ ]+) ]]
"${BASH_REMATCH[1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Complete:
    """Return what bash offers in a project's folder for the last of the words so far."""
    for name in ("models/heads/logistic", "models/heads/linear_svc", "models/finetuned", "내 사진"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "picture.png").touch()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["completion", "bash"]) == 0
    Path("script").write_text(capsys.readouterr().out, encoding="utf-8")

    def ask(*words: str) -> list[str]:
        done = subprocess.run(
            ["bash", "--norc", "-c", _ASK, "bash", "headstart", *words],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        # Bash alone may set what it will do with the answers.
        told = [line for line in done.stderr.splitlines() if "compopt" not in line]
        assert told == []
        return sorted(done.stdout.split("\n")[:-1])

    return ask


def test_commands_options_and_choices_are_offered(complete: Complete) -> None:
    assert complete("pre") == ["predict"]
    assert complete("predict", "--gr") == ["--grid"]
    assert complete("export", "--format", "") == sorted(FORMATS)
    assert complete("predict", "--split", "t") == ["test", "train"]
    assert complete("cache", "pu") == ["pull", "push"]


@pytest.mark.parametrize(
    "words",
    [("compare",), ("compare", "LeNet5"), ("backbones", "--cuts"), ("init", "--backbone")],
)
def test_backbones_are_those_of_the_catalog(complete: Complete, words: tuple[str, ...]) -> None:
    found = sorted(spec.name for spec in catalog.specs() if spec.name.startswith("MobileNetV3"))
    assert len(found) > 1
    assert complete(*words, "MobileNetV3") == found


@pytest.mark.parametrize("command", ["predict", "export"])
def test_heads_are_those_of_the_project_one_is_in(complete: Complete, command: str) -> None:
    assert complete(command, "--head", "") == ["finetuned", "linear_svc", "logistic"]
    assert complete(command, "--head", "lo") == ["logistic"]
    Path("models/heads/new").mkdir()
    assert complete(command, "--head", "n") == ["new"]


def test_where_there_is_no_project_there_are_no_heads(complete: Complete, tmp_path: Path) -> None:
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    assert complete("predict", "--head", "") == [""]


@pytest.mark.parametrize(
    "words",
    [
        ("predict",), ("predict", "x.jpg"), ("predict", "--grid"), ("suggest",), ("augment",),
        ("suggest", "-o"), ("compare", "-o"), ("report", "--output"), ("init", "x", "--source"),
    ],
)  # fmt: skip
def test_files_are_offered_where_files_are_taken(
    complete: Complete, words: tuple[str, ...]
) -> None:
    assert complete(*words, "pic") == ["picture.png"]
    assert complete(*words, "mod") == ["models"]


@pytest.mark.parametrize("words", [("export", "-o"), ("predict", "--model"), ("cache", "push")])
def test_folders_alone_where_a_folder_is_taken(complete: Complete, words: tuple[str, ...]) -> None:
    assert complete(*words, "mod") == ["models"]
    assert complete(*words, "pic") == [""]


def test_names_may_hold_spaces(complete: Complete) -> None:
    for begun in (r"내\ 사", '"내 사', "내"):
        assert complete("predict", begun) == ["내 사진"]
        assert complete("predict", "--model", begun) == ["내 사진"]


@pytest.mark.parametrize("shell", shtab.SUPPORTED_SHELLS)
def test_every_shell_gets_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "backbones" in script
    assert "offline" in script


def test_it_imports_no_tensorflow() -> None:
    code = (
        "import sys; from headstart.commands import cli; cli.main(['completion', 'bash']);"
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
