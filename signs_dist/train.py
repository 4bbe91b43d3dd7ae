"""Train a classifier.

python -m signs_dist.train                                              the default recipe; drawn hands without photos
python -m signs_dist.train --config configs/signs.yaml                  a recipe from a file
python -m signs_dist.train --config configs/signs.yaml data.root=PHOTOS optim.lr=0.05
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

from signs_dist.command import CommandParser, add_config_arguments, run_command
from signs_dist.errors import EXIT_OK, UserError


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.train",
        description="Train an image classifier by one config; everything about the run lands in a run folder.",
        epilog="`--explain` prints every setting. Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="run folder to make (default: runs/<config>-<time>)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--explain", action="store_true", help="print every setting and where it is from, and stop")
    parser.add_argument("--quiet", action="store_true", help="print results and errors only")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Train as the arguments say."""
    options = build_parser().parse_intermixed_args(arguments)

    from signs_dist.config_source import load_config

    loaded = load_config(options.config, options.overrides)
    if options.explain:
        print(loaded.explain())
        return EXIT_OK

    from signs_dist.console import Screen
    from signs_dist.context import read_context
    from signs_dist.rundir import default_run_path, describe_existing

    context = read_context()
    screen = Screen(is_terminal=context.is_terminal, quiet=options.quiet)
    name = options.config.stem if options.config else "default"
    if options.run_dir == Path():
        raise UserError("--run-dir is empty. Give a name for the folder, or leave --run-dir away.")
    run_path = options.run_dir or default_run_path(name, datetime.datetime.now())
    if run_path.exists():  # said now, before seconds of imports; the creation itself is exclusive
        raise UserError(describe_existing(run_path))

    from signs_dist.run import train
    from signs_dist.strategy import SingleProcess, choose_device

    strategy = SingleProcess(choose_device(options.device))
    command = ["python", "-m", "signs_dist.train", *arguments]
    train(loaded.config, run_path, strategy=strategy, context=context, screen=screen, command=command)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
