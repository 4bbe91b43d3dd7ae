"""What a drill trains and on how many processes, decided from the config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from signs_dist.errors import UserError

if TYPE_CHECKING:
    from signs_dist.config.settings import Config

EPOCHS = 2
EPOCH_STEPS = 20
SAVE_EVERY_STEPS = 3


def short_run_settings(config: Config, overrides: Sequence[str], world_size: int) -> list[str]:
    """The settings that make a run short, exact and fully logged. Settings in `overrides` are omitted."""
    given = {override.partition("=")[0] for override in overrides}
    wanted: dict[str, Any] = {
        "exact": "true",
        "train.epochs": EPOCHS,
        "train.epoch_steps": EPOCH_STEPS,
        "log.every_steps": 1,
        "log.samples": "true",
        "log.report": "false",
        "checkpoint.every_steps": SAVE_EVERY_STEPS,
    }
    if config.train.micro_batch is None:
        wanted["train.micro_batch"] = _micro_batch_for_one_more(config.train.global_batch, world_size)
    epochs = config.train.epochs if "train.epochs" in given else EPOCHS
    if config.schedule.name != "one_cycle" and config.schedule.warmup_epochs >= epochs:
        wanted["schedule.warmup_epochs"] = epochs / 2
    return [f"{name}={value}" for name, value in wanted.items() if name not in given]


def choose_sizes(config: Config, world_size: int, num_gpus: int) -> list[int]:
    """The numbers of processes to resume on: from 1 to one more than `world_size`.

    There are no more processes than micro-batches in a step, and no more than GPUs if the machine has any.

    Raises:
        UserError: `world_size` itself is too large, or the settings leave nothing to compare.
    """
    if not config.exact or not config.log.samples or config.log.every_steps != 1:
        raise UserError(
            "the drill needs exact=true, log.samples=true and log.every_steps=1, and sets them itself: omit them."
        )
    assert config.train.micro_batch is not None
    num_micro_batches = config.train.global_batch // config.train.micro_batch
    if world_size > num_micro_batches:
        raise UserError(
            f"--world-size {world_size}: train.global_batch={config.train.global_batch} has {num_micro_batches} "
            f"micro-batches of {config.train.micro_batch}. Type --world-size {num_micro_batches}, or a smaller "
            f"train.micro_batch."
        )
    if world_size > (num_gpus or world_size):
        raise UserError(
            f"--world-size {world_size}: each process takes a GPU, and this machine shows {num_gpus}. "
            f"Type --world-size {num_gpus}, or set CUDA_VISIBLE_DEVICES to nothing for a drill on the CPU."
        )
    return list(range(1, min(world_size + 1, num_micro_batches, num_gpus or num_micro_batches) + 1))


def _micro_batch_for_one_more(global_batch: int, world_size: int) -> int:
    """The largest size with at least `world_size` + 1 micro-batches in a step, if the batch has as many samples."""
    fewest = min(world_size + 1, global_batch)
    return next(global_batch // count for count in range(fewest, global_batch + 1) if global_batch % count == 0)
