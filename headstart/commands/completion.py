"""`headstart completion`: print the completion script of a shell."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab

from headstart import catalog
from headstart.common import places

# How metavars begin that stand for paths; the cache is shared by a URL or a folder.
_FOLDER_NAMES = ("FOLDER", "URL")
_FILE_NAMES = ("FILE", "PATH", "PHOTOS", "PICTURE")

# Those of shtab part a path at its spaces, in bash.
_FILES = {**shtab.FILE, "bash": "_headstart_files"}
_FOLDERS = {**shtab.DIRECTORY, "bash": "_headstart_dirs"}

_BACKBONES = {"bash": "_headstart_backbones", "zsh": "_headstart_backbones"}
_HEADS = {"bash": "_headstart_heads", "zsh": "_headstart_heads"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="which shell")
    parser.epilog = (
        'bash: eval "$(headstart completion bash)"; '
        "zsh: headstart completion zsh > a file _headstart in a folder of $fpath"
    )


def run(args: argparse.Namespace) -> int:
    """Print the script, for `eval` or for a file in the shell's completion folder."""
    parser = args.parser_of_all()
    for action in _actions(parser):
        _complete(action)
    print(shtab.complete(parser, shell=args.shell, preamble=_functions()))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of all parsers below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
        else:
            yield action


def _complete(action: argparse.Action) -> None:
    """Say what an argument stands for, as shtab wants it; its own choices it knows."""
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    kind: dict[str, str] | None = None
    if "--head" in action.option_strings:
        kind = _HEADS
    elif metavar.startswith("BACKBONE") or "--backbone" in action.option_strings:
        kind = _BACKBONES
    elif metavar.startswith(_FOLDER_NAMES):
        kind = _FOLDERS
    elif metavar.startswith(_FILE_NAMES) or action.type is Path:
        kind = _FILES
    if kind is not None:
        # It looks for this attribute, which argparse knows nothing of.
        vars(action)["complete"] = kind


def _functions() -> dict[str, str]:
    """Return, by shell, functions that complete what only this project knows.

    Heads are looked up when they are asked for, by the shell itself: they are those of the folder
    that one is in, and Python would take a second to start.
    """
    backbones = " ".join(spec.name for spec in catalog.specs())
    heads, finetuned = places.HEADS.as_posix(), places.FINETUNED.as_posix()
    return {
        "bash": f"""\
_headstart_files() {{
  local word=${{1#[\\"\\']}}
  compgen -f -- "${{word//\\\\/}}"
}}
_headstart_dirs() {{
  local word=${{1#[\\"\\']}}
  compgen -d -- "${{word//\\\\/}}"
}}
_headstart_backbones() {{
  compgen -W "{backbones}" -- "$1"
}}
_headstart_heads() {{
  local head
  for head in {heads}/*/ {finetuned}/; do
    if [[ -d $head ]]; then
      head=${{head%/}}
      compgen -W "${{head##*/}}" -- "$1"
    fi
  done
}}
""",
        "zsh": f"""\
_headstart_backbones() {{
  compadd -- {backbones}
}}
_headstart_heads() {{
  local -a heads
  heads=({heads}/*(N/:t) {finetuned}(N/:t))
  compadd -a heads
}}
""",
    }
