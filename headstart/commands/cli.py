"""The `headstart` command: one sub-command per module of `headstart.commands`.

Only the chosen sub-command's module is imported, so that `headstart --help` and the ones that need
no TensorFlow answer at once.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from headstart.common.errors import InputError

COMMANDS = {
    "advise": "recommend a strategy, a cut and a regularisation for these data",
    "augment": "draw an image's augmented views on a contact sheet",
    "backbones": "list the catalogue of backbones, or the cuts of one",
    "cache": "look into the feature store, check it, make room",
    "compare": "run several backbones or settings and show quality against cost",
    "completion": "print the shell completion script",
    "export": "write the selected model as Keras, SavedModel, ONNX, OpenVINO or LiteRT",
    "predict": "classify photos with the selected model",
    "report": "write report/index.html, one page with everything to look at",
    "scores": "print every head's validation and test scores",
}


def build_parser(commands: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser, with the arguments of the named sub-commands filled in.

    Args:
        commands: Sub-commands whose modules are imported; the others are listed by name only.
    """
    parser = argparse.ArgumentParser(
        prog="headstart",
        description="Image transfer learning from cached bottleneck features. The pipeline itself "
        "runs by `dvc repro`; these commands look at it and use it.",
    )
    parser.add_argument("--version", action="version", version=version("headstart"))
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        description = text[0].upper() + text[1:] + "."
        subparser = subparsers.add_parser(name, help=text, description=description)
        if name in commands:
            importlib.import_module(f"headstart.commands.{name}").configure(subparser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Args:
        argv: Arguments after the program's name; those of the process when None.

    Returns:
        The exit status: 0, 1 for a told error, 2 for wrong arguments, 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in arguments if not word.startswith("-")), "")
    commands = [chosen] if chosen in COMMANDS else []
    parsed = build_parser(commands).parse_args(arguments)
    command = importlib.import_module(f"headstart.commands.{parsed.command}")
    try:
        return int(command.run(parsed))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (`| head`) has gone; close quietly, as other tools do.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
