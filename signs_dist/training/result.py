"""The end of a run: model.pt, result.json and the closing tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from signs_dist.console.screen import percent
from signs_dist.learning.metrics import Score
from signs_dist.models.trainable import count_parameters
from signs_dist.run_folder.folder import RunFolder
from signs_dist.training.final_weights import FinalWeights
from signs_dist.training.process import Process
from signs_dist.training.run_state import RunState
from signs_dist.training.score_table import duration, finite, score_fields, show_score
from signs_dist.training.stepper import Stepper


def make_result(
    stepper: Stepper,
    run_state: RunState,
    process: Process,
    scores: Mapping[str, Score],
    final: FinalWeights,
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
        scores: the score of each evaluated split by the final weights.
        final: which weights these are.
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
        "best_by": config.evaluate.best_by,
        "best_val_accuracy": best.accuracy,
        "best_val_loss": finite(best.loss),
        "best_val_macro_f1": best.macro_f1,
        "weights": {"kind": final.kind, "epoch": final.epoch},
        "epochs": config.train.epochs,
        "epochs_trained": run_state.cursor.epoch,
        "stopped_early": run_state.has_ended_early,
        "steps": run_state.steps_done,
        "seed": config.seed,
        "train_seconds": round(train_seconds, 3),
        "total_seconds": round(total_seconds, 3),
        "images_per_second": images_per_second,
        "world_size": process.strategy.world_size,
        "strategy": process.strategy.name,
        "device": process.devices,
        "exact": config.exact,
        "arithmetic_changes": [dict(each) for each in run_state.arithmetic_changes],
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
    process.screen.say(f"trained {_epochs_text(result)}in {seconds}{speed}; best epoch {best_text(result)}")
    process.screen.say(_weights_text(result))
    process.screen.say(f"everything is in {folder.path}")


def _epochs_text(result: Mapping[str, Any]) -> str:
    return f"{result['epochs_trained']} of {result['epochs']} epochs " if result["stopped_early"] else ""


def best_text(result: Mapping[str, Any]) -> str:
    """The best epoch with the number that made it the best: `3 (91.7 %)`, `3 (loss 0.2310)`, `3 (macro F1 0.917)`."""
    numbers = {
        "accuracy": percent(result["best_val_accuracy"]),
        "loss": f"loss {math.nan if result['best_val_loss'] is None else result['best_val_loss']:.4f}",
        "macro_f1": f"macro F1 {math.nan if result['best_val_macro_f1'] is None else result['best_val_macro_f1']:.3f}",
    }
    return f"{result['best_epoch']} ({numbers[result['best_by']]})"


def _weights_text(result: Mapping[str, Any]) -> str:
    """Which weights model.pt holds."""
    kind, epoch, best = result["weights"]["kind"], result["weights"]["epoch"], result["best_epoch"]
    held = f"model.pt holds the weights of epoch {epoch}"
    if kind == "best":
        return f"{held}, the best"
    if epoch == best:
        return f"{held}, the last and the best"
    return f"{held}, the last; train.final_weights=best keeps the best"
