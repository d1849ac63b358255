"""`headstart completion`: print the completion script of a shell."""

import argparse

import shtab


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="which shell")
    parser.epilog = (
        'bash: eval "$(headstart completion bash)"; '
        "zsh: headstart completion zsh > a file _headstart in a folder of $fpath"
    )


def run(args: argparse.Namespace) -> int:
    """Print the script, for `eval` or for a file in the shell's completion folder."""
    print(shtab.complete(args.parser_of_all(), shell=args.shell))
    return 0
