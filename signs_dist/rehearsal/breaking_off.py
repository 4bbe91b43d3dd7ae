"""Run a command, and kill this process at a stage of one of its saves. The drill starts it, not a person.

python -m signs_dist.rehearsal.breaking_off "before rename" 2 MARK signs_dist.train --run-dir runs/a optim.lr=0.05
"""

from __future__ import annotations

import argparse
import os
import runpy
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from signs_dist.console.command import CommandParser, run_command
from signs_dist.errors import EXIT_OK
from signs_dist.rehearsal.save_stages import STAGES, watching_saves


def build_parser() -> CommandParser:
    """The program's arguments."""
    parser = CommandParser(
        prog="python -m signs_dist.rehearsal.breaking_off",
        description="Run a module as `python -m MODULE` does, and kill this process at a stage of one of its saves.",
    )
    parser.add_argument("stage", choices=STAGES, metavar="STAGE", help=f"one of: {', '.join(STAGES)}")
    parser.add_argument("number", type=int, metavar="NUMBER", help="when the stage is reached for this time, from 1")
    parser.add_argument("mark", type=Path, metavar="MARK", help="a file to make just before the kill")
    parser.add_argument("module", metavar="MODULE", help="such as signs_dist.train")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS", help="of the module")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the module with this process's end planned."""
    options = build_parser().parse_args(arguments)
    num_reached = 0

    def die_at_the_stage(stage: str) -> None:
        nonlocal num_reached
        num_reached += stage == options.stage
        if num_reached == options.number:
            options.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    sys.argv[1:] = options.arguments
    with watching_saves(die_at_the_stage):
        runpy.run_module(options.module, run_name="__main__", alter_sys=True)  # it ends by sys.exit
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
