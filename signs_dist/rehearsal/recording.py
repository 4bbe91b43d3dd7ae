"""Train some steps as one process of a run, and write down what it did. Parity starts it, not a person.

torchrun --nproc-per-node=2 -m signs_dist.rehearsal.recording FOLDER --steps 20 --nudge 0 exact=true
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.console.command import CommandParser, add_config_arguments, run_command
from signs_dist.errors import EXIT_OK
from signs_dist.rehearsal.records import Pass, write_passes, write_weights
from signs_dist.rehearsal.rounding import NUDGE, nudge_weights

if TYPE_CHECKING:
    from torch import Tensor

    from signs_dist.config.settings import Config
    from signs_dist.console.screen import Screen
    from signs_dist.data.batches import Batch
    from signs_dist.distributed.strategy import SingleProcess
    from signs_dist.environment.context import Context
    from signs_dist.monitoring.pulse import Pulse
    from signs_dist.training.loop import Observer
    from signs_dist.training.trainer import RunParts


def build_parser() -> CommandParser:
    """The program's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.rehearsal.recording",
        description="Train some steps as one process of a run, and write down samples, images, losses and weights.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="an existing folder to write into")
    add_config_arguments(parser)
    parser.add_argument("--steps", type=int, required=True, metavar="N", help="steps to train")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument(
        "--nudge",
        type=int,
        default=0,
        metavar="SEED",
        help=f"change the initial weights by {NUDGE:g}, at random by this seed (default: 0, no change)",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Record as the arguments say."""
    options = build_parser().parse_intermixed_args(arguments)

    from signs_dist.config.reading import load_config

    config = load_config(options.config, options.overrides).config
    record_steps(config, options.folder, options.steps, device=options.device, nudge_seed=options.nudge)
    return EXIT_OK


def record_steps(config: Config, folder: Path, num_steps: int, *, device: str, nudge_seed: int) -> None:
    """Train some steps as one process of a run, and write down what it did.

    Raises:
        UserError: the data, the model or the device cannot be used.
    """
    from signs_dist.console.screen import Screen
    from signs_dist.distributed.strategy import describe_devices, make_strategy, plan_process
    from signs_dist.environment.context import read_context
    from signs_dist.training.supervisor import Supervisor

    context = read_context()
    screen = Screen(is_terminal=False, quiet=True, is_silent=context.rank != 0)
    plan = plan_process(context, device=device)
    supervisor = Supervisor(context, config.processes, describe_devices(plan), screen)
    passes: list[Pass] = []

    def observe(numbers: range, batch: Batch, images: Tensor, loss: Tensor) -> None:
        digests = [_digest(image) for image in images]
        samples = batch.samples.tolist()
        passes.append(Pass(batch.epoch, batch.step, numbers.start, samples, digests, float(loss.detach())))

    def work() -> None:
        strategy = make_strategy(plan, context, config.processes, supervisor.pulse)
        parts = _train_steps(
            config, folder, num_steps, observe, nudge_seed, strategy, context, screen, supervisor.pulse
        )
        write_passes(folder, context.rank, passes, parts.precision.name)
        if strategy.is_main:
            write_weights(folder, parts.model)
        strategy.close()

    supervisor.run(work)


def _train_steps(
    config: Config,
    folder: Path,
    num_steps: int,
    observe: Observer,
    nudge_seed: int,
    strategy: SingleProcess,
    context: Context,
    screen: Screen,
    pulse: Pulse,
) -> RunParts:
    """Train as a run does, without saving and without validating. Only this function knows how a trainer is made."""
    from signs_dist.training import loop
    from signs_dist.training.run import prepare_run
    from signs_dist.training.trainer import Trainer

    parts, _ = strategy.all_succeed(
        lambda: prepare_run(config, folder, strategy=strategy, devices="", context=context, screen=screen, pulse=pulse),
        "wait for all to prepare",
    )
    if nudge_seed:
        nudge_weights(parts.model, nudge_seed)
    trainer = Trainer(parts)
    trainer.state.observe = observe
    steps = (
        step
        for epoch in itertools.count()
        for step in loop.train_epoch(
            trainer.state,
            trainer.train_loader.epoch(epoch),
            trainer.prepare_train,
            first_step=0,
            first_run_step=epoch * parts.plan.num_steps,
        )
    )
    for _ in itertools.islice(steps, num_steps):
        pass
    return parts


def _digest(image: Tensor) -> str:
    return hashlib.sha256(image.detach().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(run_command(main))
