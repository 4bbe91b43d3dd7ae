"""The end of a run: model.pt, result.json and the closing tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from signs_dist.checkpointing import tensors
from signs_dist.console.screen import percent
from signs_dist.learning.metrics import Score
from signs_dist.models.trainable import count_parameters
from signs_dist.run_folder.folder import RunFolder
from signs_dist.training.process import Process
from signs_dist.training.run_state import RunState
from signs_dist.training.score_table import duration, score_fields, show_score
from signs_dist.training.stepper import Stepper


def final_weights(stepper: Stepper) -> dict[str, Tensor]:
    """The weights for model.pt, on the CPU: the moving average if it is on, else the last weights."""
    average = stepper.state.average
    if average is None:
        return tensors.plain_weights(stepper.state.model)
    return {name: tensor.cpu().contiguous() for name, tensor in average.weights().items()}


def make_result(
    stepper: Stepper,
    run_state: RunState,
    process: Process,
    scores: Mapping[str, Score],
    *,
    train_seconds: float,
    total_seconds: float,
    images_per_second: float | None,
    weights_sha256: str,
) -> dict[str, Any]:
    """What result.json holds.

    Args:
        stepper: what was trained.
        run_state: the state at the end of the run.
        process: where this process runs.
        scores: the score of each evaluated split.
        train_seconds: seconds of training, earlier attempts included.
        total_seconds: seconds of this attempt from its start.
        images_per_second: speed of the steps of this attempt; None without a step.
        weights_sha256: the digest of the final weights.
    """
    prepared, best = stepper.prepared, run_state.best
    config, data = prepared.config, prepared.data
    assert best is not None
    result: dict[str, Any] = {
        "finished": True,
        "data": data.name,
        "classes": list(data.classes),
        "split_sizes": {name: len(index) for name, index in data.splits.items()},
    }
    for name, score in scores.items():
        result |= score_fields(name, score, in_full=True)
    return result | {
        "best_epoch": best.epoch,
        "best_val_accuracy": best.accuracy,
        "epochs": config.train.epochs,
        "steps": run_state.steps_done,
        "seed": config.seed,
        "train_seconds": round(train_seconds, 3),
        "total_seconds": round(total_seconds, 3),
        "images_per_second": images_per_second,
        "world_size": process.strategy.world_size,
        "strategy": process.strategy.name,
        "device": process.devices,
        "exact": config.exact,
        "micro_batch": prepared.plan.micro_batches.size,
        "precision": prepared.precision.name,
        "model": config.model.name,
        "num_parameters": count_parameters(prepared.model)[0],
        "weights_sha256": weights_sha256,
    }


def show_result(process: Process, result: Mapping[str, Any], scores: Mapping[str, Score], folder: RunFolder) -> None:
    """Print a table for each split, the speed, the best epoch, and the run folder."""
    for name, score in scores.items():
        show_score(process.screen, name, score, result["classes"], result["data"])
    rate, seconds = result["images_per_second"], duration(result["train_seconds"])
    speed = f" at {rate:,.0f} images/s" if rate is not None else ""
    best = f"best epoch {result['best_epoch']} ({percent(result['best_val_accuracy'])})"
    process.screen.say(f"trained in {seconds}{speed}; {best}")
    process.screen.say(f"everything is in {folder.path}")
