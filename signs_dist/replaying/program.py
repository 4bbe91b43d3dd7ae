"""Replay as one of several processes. The command `replay` starts this program.

torchrun --nproc-per-node=2 -m signs_dist.replaying.program FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from signs_dist.console.command import CommandParser, run_command
from signs_dist.errors import EXIT_OK


def build_parser() -> CommandParser:
    """The program's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.replaying.program", description="Replay as one of several processes."
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="with task.json; each process writes a file into it"
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Replay as the folder says."""
    folder = build_parser().parse_args(arguments).folder

    from signs_dist.environment.context import read_context
    from signs_dist.replaying.starting import run_program

    run_program(folder, read_context().rank)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
