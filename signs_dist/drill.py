"""Kill a short run several times, resume it on other numbers of processes, and check that nothing is lost.

python -m signs_dist.drill --config configs/signs.yaml --world-size 2 --kills 5
"""

from __future__ import annotations

import dataclasses
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from signs_dist.console.command import (
    MOST_PROCESSES,
    MOST_SEED,
    CommandParser,
    add_config_arguments,
    config_arguments,
    run_command,
    whole_number,
)
from signs_dist.errors import EXIT_FAILED, EXIT_OK, TrainingFailedError, UserError
from signs_dist.rehearsal.drill_settings import choose_sizes, short_run_settings
from signs_dist.rehearsal.killing import Drill
from signs_dist.rehearsal.verdicts import describe_verdicts


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.drill",
        description="Train a short run without interruption. Then start the same run again, kill it at random moments "
        "by random means, and resume it each time on another number of processes. At the end compare samples, metrics "
        "and weights. The drill sets train.epochs=2, train.epoch_steps=20 and exact=true; settings that you give "
        "override these.",
        epilog="Exit codes: 0 nothing was lost, 1 something was, 2 wrong input.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--world-size",
        type=whole_number(MOST_PROCESSES),
        metavar="N",
        help="processes of the uninterrupted run (default: 2, or 1 where there is one GPU)",
    )
    parser.add_argument(
        "--kills", type=whole_number(10_000), default=5, metavar="N", help="number of kills (default: 5)"
    )
    parser.add_argument(
        "--runs", type=whole_number(10_000), default=1, metavar="N", help="number of runs to kill (default: 1)"
    )
    parser.add_argument(
        "--seed", type=whole_number(MOST_SEED), metavar="N", help="seed of the drill's choices (default: random)"
    )
    parser.add_argument("--dir", type=Path, metavar="DIR", help="keep the runs in this new folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the kills and verdicts to a file as well")
    return parser


def _exists(folder: Path) -> str:
    return f"--dir {folder} exists. Name a new folder, or omit --dir."


def _make_folder(folder: Path) -> Path:
    """Make a new folder. Another drill may have made it since the first look, so mkdir decides."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError:
        raise UserError(_exists(folder)) from None
    return folder


def main(arguments: Sequence[str]) -> int:
    """Drill as the arguments say."""
    options = build_parser().parse_intermixed_args(arguments)
    for name in ("world_size", "kills", "runs"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(options, name)}: at least 1.")
    if options.dir is not None and options.dir.exists():
        raise UserError(_exists(options.dir))

    import torch

    from signs_dist.config.reading import load_config
    from signs_dist.environment.context import read_context

    if read_context().world_size > 1:
        raise UserError("the drill starts its own processes: start it with plain python, without torchrun or srun.")
    config = load_config(options.config, options.overrides)
    num_gpus = torch.cuda.device_count()
    world_size = options.world_size or min(2, num_gpus or 2)
    settings = short_run_settings(config, options.overrides, world_size)
    overrides = [*options.overrides, *settings]
    config = load_config(options.config, overrides)
    sizes = choose_sizes(config, world_size, num_gpus)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"settings: {' '.join(settings)}; choices by --seed {seed}", flush=True)

    root = _make_folder(options.dir) if options.dir else Path(tempfile.mkdtemp(prefix="signs_dist-drill-"))
    given = config_arguments(options.config, overrides)
    drill = Drill(root, given, sizes, random.Random(seed), is_balanced=config.data.order == "balanced")
    try:
        verdicts = drill.run(world_size, options.kills, options.runs)
    except TrainingFailedError:
        print(f"the runs are in {root}")
        raise
    except UserError:
        if options.dir is None:
            shutil.rmtree(root)
        raise
    passed = all(not verdict.differences for verdict in verdicts)
    if options.json is not None:
        from signs_dist.files import write_json

        kills, runs = map(dataclasses.asdict, drill.kills), map(dataclasses.asdict, verdicts)
        write_json(options.json, {"seed": seed, "passed": passed, "kills": list(kills), "runs": list(runs)})
    print(describe_verdicts(verdicts, len(drill.kills)))
    if options.dir is None and passed:
        shutil.rmtree(root)
    else:
        print(f"the runs are in {root}")
    return EXIT_OK if passed else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(run_command(main))
