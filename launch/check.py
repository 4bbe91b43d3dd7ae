"""Before a job is submitted, look for what would end it in its first minute. This runs the same code as the job."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from signs_dist.errors import UserError

from .request import Request

if TYPE_CHECKING:
    from signs_dist.config.settings import Config, TrainConfig

TRIAL_IMAGES = 4
"""Number of images in the step that is tried: enough for a BatchNorm."""


def check_batches(train: TrainConfig, world_sizes: Collection[int]) -> list[str]:
    """The arithmetic of a step for every number of processes that the queue may give. Raises `UserError`."""
    from signs_dist.data.plan import cut_global_batch, largest_micro_batch

    if min(world_sizes) != max(world_sizes) and train.micro_batch is None:
        raise UserError(
            f"the queue may give {min(world_sizes)} to {max(world_sizes)} processes, and train.micro_batch is not set: "
            f"each number of processes would cut the batch in another way. Add train.micro_batch="
            f"{largest_micro_batch(train.global_batch, max(world_sizes))}"
        )
    lines = []
    for world_size in sorted(world_sizes):
        cut = cut_global_batch(train.global_batch, train.micro_batch, world_size)
        lines.append(cut.describe(world_size))
    return lines


def check_run_folder(request: Request) -> list[str]:
    """Make the run folder. Raises `UserError` if it cannot be written, is in use, or its run cannot be resumed."""
    from signs_dist.files import cannot_make
    from signs_dist.run_folder.folder import RunFolder, require_run_or_empty
    from signs_dist.run_folder.lease import find_holder

    path = request.run_path
    require_run_or_empty(path)
    busy = find_holder(path, host=socket.gethostname(), takeover_seconds=request.config.checkpoint.takeover_seconds)
    if busy:
        raise UserError(busy)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise cannot_make(error, path) from error
    folder = RunFolder(path)
    if not folder.is_begun:
        return []
    from signs_dist.checkpointing.resume_rules import (
        changed_settings,
        describe_changes,
        refuse_changes,
        refuse_fewer_epochs,
    )
    from signs_dist.checkpointing.store import CheckpointStore, Cursor, read_checkpoint
    from signs_dist.errors import CheckpointError

    newest = CheckpointStore(folder.checkpoints, request.config.checkpoint.keep).newest()
    if newest is None:
        return ["the run was started before, and has saved nothing: it starts again from the beginning"]
    try:
        content = read_checkpoint(newest)
    except CheckpointError as error:
        return [f"{error} The job will set this checkpoint aside and resume from the one before it."]
    differences = changed_settings(content["config"], request.config)
    refuse_changes(differences, request.accepted, data=None)
    refuse_fewer_epochs(Cursor(**content["cursor"]), request.config.train.epochs)
    return [f"resumes from {newest}", *(f"changed since: {line}" for line in describe_changes(differences))]


def check_training(request: Request) -> list[str]:
    """Open the data, make the model, and try one step on this machine's CPU. Raises `UserError`."""
    import torch

    from signs_dist.checkpointing.store import Cursor
    from signs_dist.config.reading import load_config
    from signs_dist.console.screen import Screen
    from signs_dist.data.plan import require_full_step
    from signs_dist.distributed.strategy import SingleProcess
    from signs_dist.environment.context import is_watched, read_context
    from signs_dist.models.preprocessing import decide
    from signs_dist.monitoring.pulse import Pulse
    from signs_dist.training.exact_trial import require_exact, second_process
    from signs_dist.training.prepare import prepare
    from signs_dist.training.process import Process
    from signs_dist.training.stepper import Stepper

    images = min(TRIAL_IMAGES, request.config.train.micro_batch or TRIAL_IMAGES)
    small = [*request.overrides, f"train.global_batch={images}", f"train.micro_batch={images}", "data.num_workers=0"]
    config = decide(load_config(request.config_path, small)).config
    if request.data_on_nodes:
        return [_try_model(config)]
    # Drawing or packing images may take minutes: the screen shows it.
    screen = Screen(is_terminal=is_watched())
    process = Process(read_context(), "cpu", SingleProcess(torch.device("cpu")), screen, Pulse())
    with _as_user_error(), second_process(config, process) as second:
        prepared = prepare(config, process)
        require_full_step(request.config.train.global_batch, len(prepared.data.splits["train"]))
        stepper = Stepper(prepared, process)
        if config.exact:
            require_exact(stepper, process, second)
        steps = stepper.steps(Cursor(0, 0))
        next(steps)
        steps.close()
    data, fingerprint = prepared.data, prepared.fingerprints["train"]
    counts = ", ".join(f"{len(index):,} {name}" for name, index in data.splits.items())
    return [
        f"{data.name}: {counts} images, fingerprint {fingerprint[:12]}",
        f"{config.model.name}: one step tried on this machine's CPU",
    ]


def _try_model(config: Config) -> str:
    """Try one forward and backward pass of random pixels, where this machine does not see the images."""
    import torch

    from signs_dist.training.prepare import build_model

    with _as_user_error():
        model = build_model(config, 2, torch.device("cpu"))
        side = config.data.image_size
        model(torch.randn(TRIAL_IMAGES, 3, side, side)).sum().backward()
    return f"{config.model.name}: tried with random pixels; the data are not looked for on this machine"


@contextlib.contextmanager
def _as_user_error() -> Iterator[None]:
    """Turn what the user's model raises into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except SystemExit as error:
        raise UserError(
            f"a first step on this machine's CPU ends Python: sys.exit({error.code!r}) is called by the model, or by "
            f"what it imports."
        ) from error
    except Exception as error:
        from signs_dist.monitoring.diagnosis import find_place

        place = find_place(error)
        at = f" at {place}" if place else ""
        raise UserError(f"a first step on this machine's CPU fails: {type(error).__name__}: {error}{at}") from error


def check_signal(request: Request, kill_seconds: float | None) -> list[str]:
    """Compare the time of the run's last save, if there is one, with the time between the signal and the end.

    Args:
        request: the run, and how long before the time limit the signal comes.
        kill_seconds: between SIGTERM and SIGKILL; None where that is not known.

    Raises:
        UserError: the signal comes too late for a save.
    """
    from signs_dist.run_folder.folder import RunFolder
    from signs_dist.run_folder.records import SaveLine, of_kind

    folder = RunFolder(request.run_path)
    took = [line.last_write_seconds for line in of_kind(folder.read_metrics(), SaveLine) if line.last_write_seconds]
    if not took:
        return []
    lead, last = request.cluster.signal_seconds, took[-1]
    if last > lead / 2:
        raise UserError(
            f"--signal-seconds {lead} leaves too little time: the last save of this run took {last:.0f} s. Type "
            f"--signal-seconds {int(4 * last) + 1}"
        )
    lines = [f"the last save took {last:.1f} s; the signal comes {lead} s before the time limit"]
    if kill_seconds is not None and last > kill_seconds:
        lines.append(
            f"SLURM sends SIGKILL {kill_seconds:g} s after SIGTERM: preempted without grace time, the run resumes from "
            f"its last periodic save (checkpoint.every_seconds={request.config.checkpoint.every_seconds})"
        )
    return lines
