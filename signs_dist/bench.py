"""Measure what a config does on this machine, and say what would make it faster.

python -m signs_dist.bench --config configs/signs.yaml
python -m signs_dist.bench --config configs/signs.yaml data.root=PHOTOS --json bench.json
torchrun --nproc_per_node=2 -m signs_dist.bench --config configs/signs.yaml
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist.console.command import CommandParser, add_config_arguments, run_command
from signs_dist.errors import EXIT_OK, UserError

if TYPE_CHECKING:
    from signs_dist.training.process import Process
    from signs_dist.training.supervisor import Supervisor

MOST_SECONDS = 600.0
"""The largest legal `--seconds`."""


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.bench",
        description="Measure this config on this machine: the network alone, with data, with saving; threads, memory "
        "format, precision; the loader; under torchrun the sums over processes. Say what would make training faster, "
        "and by how much. It trains nothing that is kept, and makes no run folder.",
        epilog="Exit codes: 0 measured, 1 the loss is not a finite number, 2 wrong input, 3 another process was lost, "
        "74 a checkpoint could not be written, 75 or 130 stopped by a signal, 141 nobody reads the output.",
    )
    add_config_arguments(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--seconds", type=float, default=1.0, metavar="S", help="time for each measurement (default: %(default)g)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file as well")
    parser.add_argument("--quiet", action="store_true", help="print what to change only")
    parser.add_argument("--dp", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Measure as the arguments say."""
    options = build_parser().parse_intermixed_args(arguments)
    if options.dp:
        raise UserError(
            "--dp is not measured: nn.DataParallel is slower than a process for each GPU. Type "
            "torchrun --nproc_per_node=N -m signs_dist.bench, or omit --dp to measure one GPU."
        )
    if not 0 < options.seconds <= MOST_SECONDS:
        raise UserError(f"--seconds {options.seconds:g} is not above 0 and at most {MOST_SECONDS:g}.")

    from signs_dist.console.screen import Screen
    from signs_dist.console.streams import lasting
    from signs_dist.environment.context import read_context
    from signs_dist.files import require_writable, write_json
    from signs_dist.train import read_decided_config

    config = read_decided_config(options.config, options.overrides).config
    context = read_context()
    require_writable(options.json)
    output = sys.stdout if options.json is None else lasting(sys.stdout)  # the file is wanted, whoever reads the output
    is_silent = context.rank != 0
    screen = Screen(is_terminal=context.is_terminal, quiet=options.quiet, is_silent=is_silent, file=output)

    from signs_dist.benching.advice import advise, choices
    from signs_dist.benching.figures import as_json
    from signs_dist.benching.run import bench
    from signs_dist.benching.tables import describe_batch, describe_way, show_figures
    from signs_dist.distributed.device_choice import plan_process
    from signs_dist.distributed.exactness import arithmetic_kept, choose_cublas_workspace
    from signs_dist.training.start import run_process

    def work(process: Process, supervisor: Supervisor) -> dict[str, Any]:
        figures = bench(config, process, seconds=options.seconds)
        found = advise(figures)
        screen.say(f"{config.model.name} on {describe_way(figures)}; {describe_batch(figures)}")
        show_figures(screen, figures, choices(figures), found)
        if process.strategy.is_main and options.json is not None:
            write_json(options.json, as_json(figures, found))
            screen.say(f"the figures are in {options.json}")
        return {}

    with arithmetic_kept():
        if config.exact:
            choose_cublas_workspace()
        run_process(work, plan_process(context, device=options.device), context, screen, config.processes)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
