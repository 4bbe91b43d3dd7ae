"""The names that are there in `--shell`."""

from __future__ import annotations

from typing import Any

import torch

from signs_dist.replaying.first_bad import find_first_bad
from signs_dist.replaying.run import Looked
from signs_dist.retraining.recorded_run import RecordedRun

BANNER = (
    "The step is done. Of the first micro-batch that is not finite, else of the first one: batch, images, targets,\n"
    "logits, losses, gradients. Of the step: step, micro_batches, weights_before. As they are now: model, optimizer.\n"
    "Also: again, run, torch. Ctrl-D ends."
)


def make_scope(looked: Looked, run: RecordedRun) -> dict[str, Any]:
    """The names, from the last step that was looked at."""
    step, state = looked.step, looked.again.stepper.state
    first_bad = find_first_bad([step])
    chosen = next(
        (each for each in step.micro_batches if first_bad is not None and each.number == first_bad.micro_batch),
        step.micro_batches[0],
    )
    return {
        "model": state.model,
        "optimizer": state.optimizer,
        "batch": looked.watch.batches[chosen.number],
        "images": chosen.images,
        "targets": chosen.targets,
        "logits": chosen.logits,
        "losses": chosen.losses,
        "gradients": chosen.gradients,
        "micro_batch": chosen,
        "micro_batches": step.micro_batches,
        "step": step,
        "weights_before": step.weights_before,
        "again": looked.again,
        "run": run,
        "torch": torch,
    }
