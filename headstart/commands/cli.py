"""The `headstart` command: one sub-command per module or package of `headstart.commands`.

Only the chosen sub-command's module is imported, so that `headstart --help` and the ones that need
no TensorFlow answer at once.
"""

import argparse
import sys
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from importlib.metadata import version
from typing import Literal, Protocol

from headstart.common.process import run_to_status

CommandName = Literal[
    "init",
    "upgrade",
    "backbones",
    "augment",
    "advise",
    "compare",
    "scores",
    "check",
    "report",
    "predict",
    "audit",
    "verify",
    "suggest",
    "export",
    "cache",
    "parts",
    "completion",
]

COMMANDS: dict[CommandName, str] = {
    "init": "make a project in any folder, on your photos",
    "upgrade": "bring a project to the installed version, and tell what runs again",
    "backbones": "list the catalog of backbones, or the cuts of one",
    "augment": "draw an image's augmented views on a contact sheet",
    "advise": "recommend a strategy and a cut for these data",
    "compare": "run several backbones or settings and show quality against cost",
    "scores": "print every head's validation and test scores",
    "check": "judge what params.yaml promises of the scores; 1 where it is broken",
    "report": "write report/index.html, one page with everything to look at",
    "predict": "classify photos with the selected model",
    "audit": "list what may be wrong with labels, pictures and classes",
    "verify": "read all photos again and list those whose content has changed; 1 where one has",
    "suggest": "choose the unlabelled photos that are worth labelling next",
    "export": "write the selected model as Keras, SavedModel, ONNX, OpenVINO or LiteRT",
    "cache": "look into the cache folder, check it, make room, share features",
    "parts": "divide the extraction into parts for many machines, and run one of them",
    "completion": "print the shell completion script",
}
"""In the order in which one meets them."""

STAGES = ("prepare", "pretrain", "extract", "train", "novelty", "finetune", "evaluate")
"""Those of dvc.yaml that are no commands, for who takes them for some."""


class Command(Protocol):
    """What the module of a sub-command gives."""

    def configure(self, parser: argparse.ArgumentParser, /) -> None:
        """Add the arguments."""

    def run(self, args: argparse.Namespace, /) -> int:
        """Do the work and return the exit status."""


def load_command(name: CommandName) -> Command:
    """Import the module of one sub-command."""
    match name:
        case "init":
            from headstart.commands.project import init

            return init
        case "upgrade":
            from headstart.commands.project import upgrade

            return upgrade
        case "backbones":
            from headstart.commands import backbones

            return backbones
        case "augment":
            from headstart.commands import augment

            return augment
        case "advise":
            from headstart.commands.advise import command as advise

            return advise
        case "compare":
            from headstart.commands.compare import command as compare

            return compare
        case "scores":
            from headstart.commands import scores

            return scores
        case "check":
            from headstart.commands.check import command as check

            return check
        case "report":
            from headstart.commands import report

            return report
        case "predict":
            from headstart.commands.predict import command as predict

            return predict
        case "audit":
            from headstart.commands import audit

            return audit
        case "verify":
            from headstart.commands import verify

            return verify
        case "suggest":
            from headstart.commands.suggest import command as suggest

            return suggest
        case "export":
            from headstart.commands.export import command as export

            return export
        case "cache":
            from headstart.commands.cache import command as cache

            return cache
        case "parts":
            from headstart.commands import parts

            return parts
        case "completion":
            from headstart.commands import completion

            return completion


def build_parser(commands: Collection[str]) -> argparse.ArgumentParser:
    """Return the parser, with the arguments of the named sub-commands filled in.

    Args:
        commands: Sub-commands whose modules are imported; the others are listed by name only.
    """
    parser = argparse.ArgumentParser(
        prog="headstart",
        description="Image transfer learning from cached bottleneck features. The pipeline itself "
        "runs by `dvc repro`; these commands start it, look at it and use it.",
    )
    parser.add_argument("--version", action="version", version=version("headstart"))
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        description = text[0].upper() + text[1:] + "."
        subparser = subparsers.add_parser(name, help=text, description=description)
        if name in commands:
            load_command(name).configure(subparser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Args:
        argv: Arguments after the program's name; those of the process when None.

    Returns:
        The exit status: 0, 1 for an error that the user can mend, 2 for wrong arguments, 130 when
        interrupted, 143 when terminated.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in arguments if not word.startswith("-")), "")
    if not arguments:
        build_parser({}).print_help(sys.stderr)
        return 2
    if chosen and chosen not in COMMANDS:
        build_parser({}).error(_no_such_command(chosen))
    # `completion` needs the parser of all commands, and cannot import what imports it.
    given = argparse.Namespace(parser_of_all=lambda: build_parser(COMMANDS))
    parsed = build_parser({chosen}).parse_args(arguments, given)
    return run_to_status(lambda: load_command(parsed.command).run(parsed))


def _no_such_command(word: str) -> str:
    near = get_close_matches(word, COMMANDS, n=1)
    if word in STAGES:
        hint = f"{word} is a stage: `dvc repro {word}` runs it and what it needs"
    elif near:
        hint = f"did you mean {near[0]}?"
    else:
        hint = "`headstart --help` lists them"
    return f"there is no command {word!r}; {hint}"


if __name__ == "__main__":
    sys.exit(main())
