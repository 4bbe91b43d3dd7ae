"""Train some steps as one process of a run, and write down what it did. The command `parity` starts this program.

torchrun --nproc-per-node=2 -m signs_dist.rehearsal.recording FOLDER --steps 20 --nudge 0 exact=true
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.console.command import MOST_SEED, CommandParser, add_config_arguments, run_command, whole_number
from signs_dist.errors import EXIT_OK
from signs_dist.rehearsal.records import Pass, write_passes, write_weights
from signs_dist.rehearsal.rounding import NUDGE, nudge_weights

if TYPE_CHECKING:
    from torch import Tensor

    from signs_dist.config.settings import Config
    from signs_dist.data.batches import Batch
    from signs_dist.training.process import Process
    from signs_dist.training.stepper import Stepper


def build_parser() -> CommandParser:
    """The program's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.rehearsal.recording",
        description="Train some steps as one process of a run, and write down samples, images, losses and weights.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="an existing folder to write into")
    add_config_arguments(parser)
    parser.add_argument("--steps", type=whole_number(1_000_000), required=True, metavar="N", help="steps to train")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument(
        "--nudge",
        type=whole_number(MOST_SEED),
        default=0,
        metavar="SEED",
        help=f"change the initial weights by {NUDGE:g}, at random by this seed (default: 0, no change)",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Record as the arguments say."""
    options = build_parser().parse_intermixed_args(arguments)

    from signs_dist.config.reading import load_config
    from signs_dist.models.preprocessing import decide

    config = decide(load_config(options.config, options.overrides)).config
    record_steps(config, options.folder, options.steps, device=options.device, nudge_seed=options.nudge)
    return EXIT_OK


def record_steps(config: Config, folder: Path, num_steps: int, *, device: str, nudge_seed: int) -> None:
    """Train some steps as one process of a run, and write down what it did.

    Raises:
        UserError: the data, the model or the device cannot be used.
    """
    from signs_dist.console.screen import Screen
    from signs_dist.distributed.device_choice import plan_process
    from signs_dist.environment.context import read_context
    from signs_dist.training.start import run_process

    context = read_context()
    screen = Screen(is_terminal=False, quiet=True, is_silent=context.rank != 0)

    def work(process: Process, supervisor: object) -> dict[str, object]:
        from signs_dist.training.cached_features import with_features
        from signs_dist.training.exact_trial import require_exact, second_process
        from signs_dist.training.prepare import prepare
        from signs_dist.training.stepper import Stepper

        with second_process(config, process) as second:
            prepared = process.strategy.all_succeed(lambda: prepare(config, process), "wait for all to prepare")
            if nudge_seed:
                nudge_weights(prepared.model, nudge_seed)
            stepper = Stepper(with_features(prepared, process), process)
            if config.exact:
                require_exact(stepper, process, second)
        passes = _train_and_observe(stepper, num_steps)
        write_passes(folder, context.rank, passes, prepared.precision.name)
        if process.strategy.is_main:
            write_weights(folder, prepared.model)
        return {}

    run_process(work, plan_process(context, device=device), context, screen, config.processes)


def _train_and_observe(stepper: Stepper, num_steps: int) -> list[Pass]:
    """Train as a run does, without saving and without validating. Returns each forward pass of this process."""
    from signs_dist.checkpointing.store import Cursor

    passes: list[Pass] = []

    def observe(numbers: range, batch: Batch, images: Tensor, loss: Tensor) -> None:
        digests = [_digest(image) for image in images]
        samples = batch.samples.tolist()
        passes.append(Pass(batch.epoch, batch.step, numbers.start, samples, digests, float(loss.detach())))

    stepper.state.observe = observe
    steps = itertools.chain.from_iterable(stepper.steps(Cursor(epoch, 0)) for epoch in itertools.count())
    for _ in itertools.islice(steps, num_steps):
        pass
    return passes


def _digest(image: Tensor) -> str:
    return hashlib.sha256(image.detach().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(run_command(main))
