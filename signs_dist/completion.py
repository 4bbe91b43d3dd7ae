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
PATHS = ("FILE", "DIR", "FOLDER", "PATH", "PLACE", "INPUT", "RUN_A")
"""What the name of a file or a folder has in the help of an argument."""


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
        _complete_paths(command, files)
    return parser


def _complete_paths(parser: argparse.ArgumentParser, files: object) -> None:
    """Let the arguments of a parser be completed whose value is a file or a folder, and of the parsers below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _complete_paths(below, files)
        elif _is_path(action):
            action.complete = files  # type: ignore[attr-defined]


def _is_path(action: argparse.Action) -> bool:
    """Whether the value of an argument is a file or a folder, by its type and its name in the help."""
    kind = getattr(action.type, "__name__", "")
    return kind in ("Path", "read_path") or any(word in str(action.metavar) for word in PATHS)


if __name__ == "__main__":
    sys.exit(run_command(main))
