"""`python -m signs_dist.train` in which one rank computes something else at one step: LIE=rank,step,kind.

`gradient`: a bit of the gradients of that step, from 1. `weight`: a bit of a weight, after that step.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from torch import Tensor

from signs_dist.console.command import run_command
from signs_dist.train import main
from signs_dist.training import loop
from tests.training.liars import flip_bit

plain_step = loop.train_step


def lying_step(state: loop.TrainingState, *arguments: Any, **places: Any) -> None:
    """The step of the rank that lies."""
    rank, step, kind = os.environ["LIE"].split(",")
    parameter = next(state.model.parameters())
    is_now = os.environ.get("RANK", "0") == rank and places["run_step"] + 1 == int(step)
    if not is_now:
        plain_step(state, *arguments, **places)
        return

    def changed(gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        flip_bit(gradient)
        return gradient

    if kind == "gradient":
        handle = parameter.register_hook(changed)
        plain_step(state, *arguments, **places)
        handle.remove()
    else:
        plain_step(state, *arguments, **places)
        flip_bit(parameter)


if __name__ == "__main__":
    if "LIE" in os.environ:
        loop.train_step = lying_step
    sys.exit(run_command(main))
