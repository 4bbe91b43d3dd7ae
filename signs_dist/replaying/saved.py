"""The file of `--save`: the tensors of some steps, as `torch.load(FILE, weights_only=True)` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.checkpointing import tensors
from signs_dist.replaying.records import MicroBatch, Step

FORMAT = 1


def save_tensors(
    path: Path, run_path: Path, steps: Sequence[Step], files: Mapping[int, str], classes: Sequence[str]
) -> None:
    """Write the tensors of some steps, whole or not at all. Raises `UserError` if the file cannot be written."""
    tensors.save(path, to_content(run_path, steps, files, classes))


def to_content(
    run_path: Path, steps: Sequence[Step], files: Mapping[int, str], classes: Sequence[str]
) -> dict[str, Any]:
    """`format`, `run`, `classes`, and `steps`: for each its numbers, weights, gradients and micro-batches."""
    return {
        "format": FORMAT,
        "run": str(run_path),
        "classes": list(classes),
        "steps": [_step(step, files) for step in steps],
    }


def _step(step: Step, files: Mapping[int, str]) -> dict[str, Any]:
    return {
        "step": step.step,
        "epoch": step.epoch,
        "step_of_epoch": step.step_of_epoch,
        "learning_rate": step.learning_rate,
        "gradients": step.gradients,
        "weights_before": step.weights_before,
        "weights_after": step.weights_after,
        "micro_batches": [_micro_batch(each, files) for each in step.micro_batches],
    }


def _micro_batch(each: MicroBatch, files: Mapping[int, str]) -> dict[str, Any]:
    return {
        "micro_batch": each.number,
        "samples": each.samples,
        "files": [files[sample] for sample in each.samples],
        "labels": each.labels,
        "images": each.images,
        "features": each.features,
        "targets": each.targets,
        "logits": each.logits,
        "losses": each.losses,
        "gradients": each.gradients,
    }
