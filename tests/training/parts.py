"""The parts of a small run on pictures of one colour, and the same from a folder for a trainer."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import torch

from signs_dist.config.reading import dump_config, load_config
from signs_dist.config.settings import Config
from signs_dist.console.screen import Screen
from signs_dist.distributed.strategy import SingleProcess, Wishes
from signs_dist.environment.context import read_context
from signs_dist.monitoring.pulse import Pulse
from signs_dist.monitoring.signals import StopRequest
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.lease import Lease
from signs_dist.training.prepare import Prepared, prepare
from signs_dist.training.process import Process
from signs_dist.training.run_state import RunState, make_run_state
from signs_dist.training.saver import Saver
from signs_dist.training.stepper import Stepper
from signs_dist.training.trainer import Trainer
from tests.sets import write_colour_set

SMALL = ("data.image_size=16", "train.global_batch=8", "train.epochs=2", "data.num_workers=0", "model.name=mlp")
"""4 steps an epoch on the 36 training images."""
NEVER: Wishes = (lambda: False, lambda: False)


def make_config(folder: Path, *settings: str) -> Config:
    """The config of a run on pictures in `folder`; `settings` win over small ones."""
    root = folder / "colours"
    if not root.exists():
        write_colour_set(root, counts={"train": 12, "val": 4, "test": 4})
    names = {setting.partition("=")[0] for setting in settings}
    small = [f"data.root={root}", f"data.cache={folder / 'cache'}", *SMALL]
    return load_config(None, [*(one for one in small if one.partition("=")[0] not in names), *settings])


def make_process(*, quiet: bool = True, **changes: Any) -> Process:
    """One process on the CPU whose lines are kept: see `shown`. `changes` are of its context."""
    screen = Screen(is_terminal=False, quiet=quiet, file=io.StringIO())
    context = dataclasses.replace(read_context(), **changes)
    return Process(context, "cpu", SingleProcess(torch.device("cpu")), screen, Pulse())


def make_silent(process: Process) -> Process:
    """The same process as one that does not write: as rank 1 of a run, without a rank 0 to wait for."""
    strategy = SingleProcess(torch.device("cpu"))
    strategy.is_main = False
    return dataclasses.replace(process, strategy=strategy)


def shown(process: Process) -> str:
    """What the screen of `make_process` was told to show."""
    stream = process.screen._console.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def make_prepared(folder: Path, *settings: str, process: Process | None = None) -> Prepared:
    """The parts of a run."""
    return prepare(make_config(folder, *settings), process or make_process())


def make_stepper(
    folder: Path, *settings: str, process: Process | None = None, wishes: Wishes = NEVER
) -> tuple[Stepper, Process]:
    """The stepper of a run."""
    process = process or make_process()
    return Stepper(make_prepared(folder, *settings, process=process), process, wishes), process


@dataclasses.dataclass
class Made:
    """A trainer with all that it was made from."""

    trainer: Trainer
    stepper: Stepper
    run_state: RunState
    saver: Saver
    stop: StopRequest
    folder: RunFolder
    process: Process


def make_trainer(
    folder: Path, *settings: str, process: Process | None = None, lease: Lease | None = None, run: str = "run"
) -> Made:
    """A trainer at step 0 of a run in `folder / run`, which may have been begun before."""
    process = process or make_process()
    config = make_config(folder, *settings)
    run_folder = RunFolder(folder / run, is_writer=process.strategy.is_main).create()
    run_folder.write_config(dump_config(config))
    stop, saver = StopRequest(), Saver(run_folder, config.checkpoint, process)
    wishes = (lambda: stop.is_set, saver.timer.is_due)
    stepper, _ = make_stepper(folder, *settings, process=process, wishes=wishes)
    run_state = make_run_state(stepper.prepared)
    trainer = Trainer(stepper, run_state, saver, process, run_folder, stop=stop, lease=lease)
    return Made(trainer, stepper, run_state, saver, stop, run_folder, process)
