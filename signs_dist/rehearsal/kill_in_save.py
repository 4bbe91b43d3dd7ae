"""Run a command, and kill this process at a stage of one of its saves. The command `drill` starts this program.

python -m signs_dist.rehearsal.kill_in_save "before rename" 2 FILE signs_dist.train --run-dir runs/a optim.lr=0.05
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
        prog="python -m signs_dist.rehearsal.kill_in_save",
        description="Run a module as `python -m MODULE` does, and kill this process at a stage of one of its saves.",
    )
    parser.add_argument("stage", choices=STAGES, metavar="STAGE", help=f"one of: {', '.join(STAGES)}")
    parser.add_argument("number", type=int, metavar="N", help="kill when the stage is reached the Nth time, from 1")
    parser.add_argument("killed_file", type=Path, metavar="FILE", help="a file to make just before the kill")
    parser.add_argument("module", metavar="MODULE", help="such as signs_dist.train")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS", help="of the module")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the module, and kill this process when it reaches the stage."""
    options = build_parser().parse_args(arguments)
    num_reached = 0

    def kill_at_stage(stage: str) -> None:
        nonlocal num_reached
        num_reached += stage == options.stage
        if num_reached == options.number:
            options.killed_file.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    sys.argv[1:] = options.arguments
    with watching_saves(kill_at_stage):
        runpy.run_module(options.module, run_name="__main__", alter_sys=True)  # it ends by sys.exit
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
