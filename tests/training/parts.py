"""The parts of a small run on pictures of one colour, without a run folder."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from signs_dist.config.reading import load_config
from signs_dist.console.screen import Screen
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.environment.context import read_context
from signs_dist.monitoring.pulse import Pulse
from signs_dist.training.prepare import prepare
from signs_dist.training.process import Process
from signs_dist.training.stepper import Stepper
from tests.sets import write_colour_set

SMALL = ("data.image_size=16", "train.global_batch=8", "train.epochs=2", "data.num_workers=0", "model.name=mlp")


def make_process() -> Process:
    """One process on the CPU that shows nothing."""
    screen = Screen(is_terminal=False, quiet=True, file=io.StringIO())
    return Process(read_context(), "cpu", SingleProcess(torch.device("cpu")), screen, Pulse())


def make_stepper(folder: Path, *settings: str) -> tuple[Stepper, Process]:
    """The stepper of a run; `settings` win over small ones."""
    root = folder / "colours"
    if not root.exists():
        write_colour_set(root, counts={"train": 12, "val": 4, "test": 4})
    names = {setting.partition("=")[0] for setting in settings}
    small = [setting for setting in SMALL if setting.partition("=")[0] not in names]
    where = [f"data.root={root}", f"data.cache={folder / 'cache'}"]
    process = make_process()
    config = load_config(None, [*where, *small, *settings]).config
    return Stepper(prepare(config, process), process), process
