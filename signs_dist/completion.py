"""Print a script with which a shell completes commands, flags and files of `signs-dist` at the Tab key.

signs-dist completion bash > ~/.local/share/bash-completion/completions/signs-dist
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from signs_dist import cli
from signs_dist.console.command import CommandParser, run_command
from signs_dist.errors import EXIT_OK
from signs_dist.extras import require_extra

SHELLS = ("bash", "zsh", "fish", "tcsh")


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.completion",
        description="Print a script with which a shell completes commands, flags and files of signs-dist at the Tab "
        "key.",
        epilog="bash: signs-dist completion bash > ~/.local/share/bash-completion/completions/signs-dist; zsh: the "
        "same with zsh, into a file _signs-dist in a folder of fpath; fish: into "
        "~/.config/fish/completions/signs-dist.fish. Then start a new shell. Exit codes: 0 printed, 2 wrong input.",
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell that is to complete")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Print the script of a shell. Raises `UserError` without shtab."""
    options = build_parser().parse_args(arguments)
    require_extra("completion", "shtab", "signs-dist completion")
    import shtab

    print(shtab.complete(whole_parser(shtab.FILE), shell=options.shell))
    return EXIT_OK


def whole_parser(files: object) -> argparse.ArgumentParser:
    """One parser with all commands of `signs-dist` below it, for shtab: it completes, and parses nothing.

    Args:
        files: what an argument is given as `complete` whose value is a file or a folder.
    """
    parser = argparse.ArgumentParser(prog="signs-dist")
    below = parser.add_subparsers(dest="command")
    for name, (_, about) in (cli.COMMANDS | cli.LAUNCHERS).items():
        own = importlib.import_module(cli.find_module(name)).build_parser()
        # Its arguments without its --help, which each parser has already.
        command = below.add_parser(name, help=about)
        for action in own._actions:
            if not isinstance(action, argparse._HelpAction):
                command._add_action(action)
                if _is_path(action):
                    action.complete = files
    return parser


def _is_path(action: argparse.Action) -> bool:
    """Whether the value of an argument is a file or a folder, by its type and its name in the help."""
    kind = getattr(action.type, "__name__", "")
    return kind in ("Path", "read_path") or str(action.metavar).endswith(("FILE", "DIR", "FOLDER"))


if __name__ == "__main__":
    sys.exit(run_command(main))
