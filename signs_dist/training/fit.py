"""The whole job in a script or a notebook."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch

from signs_dist.checkpointing.resume_rules import refuse_other_settings
from signs_dist.config.settings import Config
from signs_dist.console.screen import Screen
from signs_dist.environment.context import read_context
from signs_dist.run_folder.folder import RunFolder, default_run_path
from signs_dist.training.start import start_run


def fit(
    config: Config,
    run_dir: str | Path | None = None,
    *,
    device: str = "auto",
    quiet: bool = False,
    accept_change: Collection[str] = (),
) -> dict[str, Any]:
    """Train a run to its end, or go on with one that was stopped: what `python -m signs_dist.train` does.

        config = signs_dist.load_config("configs/signs.yaml", ["optim.lr=0.05"])
        result = signs_dist.fit(config, run_dir="runs/a")
        print(result["val_accuracy"], result["run_dir"])

    In a notebook each epoch prints a line. A script that calls this may be started by torchrun or srun. When it returns
    or raises, threads, signal handlers, torch's random state and its settings are as before.

    Args:
        config: from `load_config`.
        run_dir: the run folder to make, or to go on with; None for a new one below runs/.
        device: auto, cpu, cuda or cuda:N.
        quiet: whether only results and errors are printed.
        accept_change: names of settings that may differ from those that the run was begun with.

    Returns:
        The contents of result.json, and `run_dir`. For a finished run those that it has.

    Raises:
        UserError: config, data, model or run folder cannot be used.
        TrainingFailedError: the loss is no finite number.
        SaveError: a checkpoint could not be written.
        StoppedError: Ctrl-C or a scheduler's signal; what was trained is saved, and the same call goes on.
    """
    context = read_context()
    launch_id = context.launch_id if context.may_restart else ""
    run_path = Path(run_dir) if run_dir else default_run_path("fit", datetime.datetime.now(), launch_id=launch_id)
    folder = RunFolder(run_path)
    if folder.is_finished:
        refuse_other_settings(folder, config, accept_change)
        result = json.loads(folder.result.read_text(encoding="utf-8"))
    else:
        screen = Screen(is_terminal=context.is_terminal, quiet=quiet, is_silent=context.rank != 0)
        with _torch_as_before():
            result = start_run(
                config,
                run_path,
                context=context,
                screen=screen,
                device=device,
                accepted=accept_change,
                command=["signs_dist.fit"],
                is_library=True,
            )
    return {**result, "run_dir": run_path}


@contextlib.contextmanager
def _torch_as_before() -> Iterator[None]:
    """After the block, torch's threads, random state and determinism, and the environment, are as before."""
    environment = dict(os.environ)
    num_threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()):
            yield
    finally:
        torch.set_num_threads(num_threads)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
