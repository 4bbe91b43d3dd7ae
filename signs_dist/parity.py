"""Check that a config gives the same result on several numbers of processes of this machine.

python -m signs_dist.parity --config configs/signs.yaml --world-sizes 1,2,3,4 --steps 20 exact=true train.micro_batch=8
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from signs_dist.console.command import CommandParser, add_config_arguments, config_arguments, run_command, whole_number
from signs_dist.environment.subprocesses import count_processes
from signs_dist.errors import EXIT_FAILED, EXIT_OK, TrainingFailedError, UserError
from signs_dist.rehearsal.record_comparison import compare_records, describe_rows
from signs_dist.rehearsal.recorded_runs import record_run
from signs_dist.rehearsal.rounding import NUDGE, NUM_CONTROLS, rounding_bounds


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.parity",
        description="Train some steps of a config on several numbers of processes and compare: the order of samples, "
        "their augmentation, the losses and the weights. In exact mode it says where bits part, as diverge does.",
        epilog="Exit codes: 0 all equal (in fast mode: within the bound), 1 a difference, 2 wrong input.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--world-sizes", default="1,2,3,4", metavar="1,2,3", help="numbers of processes to compare (default: 1,2,3,4)"
    )
    parser.add_argument(
        "--steps", type=whole_number(1_000_000), default=20, metavar="N", help="steps to train (default: 20)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison to a file as well")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Compare as the arguments say."""
    options = build_parser().parse_intermixed_args(arguments)
    world_sizes = parse_world_sizes(options.world_sizes)
    if options.steps < 1:
        raise UserError(f"--steps {options.steps}: at least 1.")

    from signs_dist.config.reading import load_config
    from signs_dist.data.plan import cut_global_batch, largest_micro_batch
    from signs_dist.environment.context import read_context

    overrides = list(options.overrides)
    config = load_config(options.config, overrides)
    if config.train.micro_batch is None:
        size = largest_micro_batch(config.train.global_batch, max(world_sizes))
        print(
            f"train.micro_batch is not set: using {size}, so that each number of processes has the same micro-batches"
        )
        overrides.append(f"train.micro_batch={size}")
        config = load_config(options.config, overrides)
    assert config.train.micro_batch is not None
    cut_global_batch(config.train.global_batch, config.train.micro_batch, max(world_sizes))
    if read_context().world_size > 1:
        raise UserError("parity starts its own processes: start it with plain python, without torchrun or srun.")

    given = ["--steps", str(options.steps), "--device", options.device, *config_arguments(options.config, overrides)]
    with tempfile.TemporaryDirectory(prefix="signs_dist-parity-") as folder:
        records = []
        for world_size in world_sizes:
            print(f"training {options.steps} steps on {count_processes(world_size)} …", flush=True)
            records.append(record_run(world_size, given, Path(folder) / str(world_size)))
        controls = []
        for seed in range(1, 1 + (0 if config.exact else NUM_CONTROLS)):
            print(
                f"training {options.steps} steps from weights changed by {NUDGE:g}, to measure what rounding does: "
                f"{seed} of {NUM_CONTROLS} …",
                flush=True,
            )
            controls.append(record_run(world_sizes[0], ["--nudge", str(seed), *given], Path(folder) / f"control{seed}"))

    bounds = rounding_bounds(records[0], controls) if controls else None
    rows = [compare_records(records[0], record, bounds) for record in records]
    print(describe_rows(rows, records[0], bounds), flush=True)
    result: dict[str, Any] = {"exact": config.exact, "rows": [dataclasses.asdict(row) for row in rows]}
    is_equal = all(row.is_equal for row in rows)
    if config.exact and not is_equal:
        other = next(row.world_size for row in rows if not row.is_equal)
        result["diverge"] = tell_where(options, overrides, (world_sizes[0], other))
    if options.json is not None:
        from signs_dist.files import write_json

        write_json(options.json, result)
    return EXIT_OK if is_equal else EXIT_FAILED


def tell_where(options: argparse.Namespace, overrides: Sequence[str], world_sizes: tuple[int, int]) -> dict[str, Any]:
    """Train once more on two numbers of processes, side by side, and print where their bits part, as `diverge` does.

    Returns:
        What `diverge --json` writes; only `error` if the comparison failed: what parity has found stands without it.
    """
    from signs_dist.diverging.comparison import compare
    from signs_dist.diverging.orders import Subject
    from signs_dist.diverging.request import Request

    left, right = (Subject(number, config=options.config, overrides=tuple(overrides)) for number in world_sizes)
    request = Request((left, right), options.steps, options.device)
    try:
        with tempfile.TemporaryDirectory(prefix="signs_dist-parity-") as folder:
            result = compare(request, Path(folder), tell=lambda line: print(line, flush=True))
    except (UserError, TrainingFailedError) as error:
        print(f"where the bits part is not known, since training side by side failed: {error}", flush=True)
        return {"error": str(error)}
    if result.is_equal:
        print(
            "FAIL all the same: the difference above did not come again side by side. Some operation gives other bits "
            "from call to call, or the compiler or CUDA graphs do, which are off side by side.",
            flush=True,
        )
    return result.as_fields()


def parse_world_sizes(text: str) -> list[int]:
    """The numbers of processes in a text such as `1,2,3`.

    Raises:
        UserError: they are not two or more different whole numbers from 1.
    """
    words = text.split(",")
    if not all(word.strip().isdigit() and int(word) > 0 for word in words) or len(set(words)) < len(words):
        raise UserError(f"--world-sizes {text}: give different whole numbers from 1, such as 1,2,4.")
    world_sizes = [int(word) for word in words]
    if len(world_sizes) < 2:
        raise UserError(
            f"--world-sizes {text}: one number of processes has nothing to be compared with. "
            f"Type --world-sizes {'1,2' if world_sizes == [1] else f'1,{world_sizes[0]}'}"
        )
    return world_sizes


if __name__ == "__main__":
    sys.exit(run_command(main))
