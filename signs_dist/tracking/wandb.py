"""Weights & Biases. Its environment variables are honoured: WANDB_PROJECT, WANDB_MODE, WANDB_DIR, WANDB_API_KEY, …"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Mapping
from typing import Any

import wandb
from PIL import Image

from signs_dist.tracking.tracker import Ending, RunFacts, plain

PROJECT = "signs_dist"
"""Where WANDB_PROJECT does not name another."""


class WeightsAndBiases:
    """A run of Weights & Biases."""

    def __init__(self, facts: RunFacts, run_id: str) -> None:
        self.run_id = run_id or os.environ.get("WANDB_RUN_ID") or uuid.uuid4().hex[:12]
        given = {"project": ("WANDB_PROJECT", PROJECT), "name": ("WANDB_NAME", facts.name)}
        self._run = wandb.init(
            # An argument would outrank its environment variable.
            **{key: value for key, (variable, value) in given.items() if not os.environ.get(variable)},
            id=self.run_id,
            resume="allow",
            config=plain(facts.settings),
            allow_val_change=True,
            save_code=False,
            settings=wandb.Settings(console="off"),
        )
        self.url = self._run.url or ""

    def last_step(self) -> int | None:
        """None: an offline run cannot be asked. Its own process has what was logged, whatever becomes of this one."""
        return None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add the numbers of a step."""
        self._run.log(dict(values), step=step)

    def flush(self) -> None:
        """Nothing to do: the numbers are with wandb's own process."""

    def show_picture(self, step: int, name: str, picture: bytes) -> None:
        """Add a picture (PNG)."""
        self._run.log({name: wandb.Image(Image.open(io.BytesIO(picture)))}, step=step)

    def end(self, ending: Ending, result: Mapping[str, Any]) -> None:
        """Write the final result into the run's summary, and end it."""
        self._run.summary.update(plain(result))
        self._run.finish(exit_code=1 if ending == "failed" else 0)


def open_tracker(facts: RunFacts, run_id: str) -> WeightsAndBiases:
    """A new run, or the one with an earlier id."""
    return WeightsAndBiases(facts, run_id)
