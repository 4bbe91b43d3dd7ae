"""`fit`: a whole run, from a script or a notebook."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch

from signs_dist.checkpointing.resume_rules import is_result_of
from signs_dist.config.reading import accepted_names
from signs_dist.config.settings import Config
from signs_dist.console.screen import Screen, is_in_notebook
from signs_dist.console.streams import unblocked
from signs_dist.distributed.exactness import arithmetic_kept
from signs_dist.environment.context import read_context
from signs_dist.errors import in_python_words, require_kind
from signs_dist.models.preprocessing import decide
from signs_dist.run_folder.folder import RunFolder, default_run_path
from signs_dist.training.start import start_run


@in_python_words()
def fit(
    config: Config,
    run_dir: str | Path | None = None,
    *,
    device: str = "auto",
    quiet: bool = False,
    accept_change: str | Collection[str] = (),
) -> dict[str, Any]:
    """Train a run to its end, or resume one that was stopped: what `python -m signs_dist.train` does.

    In a notebook each epoch prints a line. torchrun or srun may start a script that calls `fit`. When `fit` returns or
    raises, worker processes and threads have ended, and signal handlers, environment variables, torch's random state,
    its threads and its choice of deterministic kernels are as before.

    Args:
        config: from `load_config`.
        run_dir: the run folder, new or to be resumed; None makes a new one in runs/.
        device: auto, cpu, cuda or cuda:N.
        quiet: whether to print results and errors only.
        accept_change: names of settings that may differ from the settings of earlier attempts, such as `optim.lr`.

    Returns:
        The contents of result.json, and `run_dir`. A finished run is not trained again.

    Raises:
        UserError: config, data, model or run folder cannot be used.
        TrainingFailedError: the loss is not a finite number.
        SaveError: a checkpoint could not be written.
        StoppedError: Ctrl-C or a scheduler's signal. The run is saved, and the same call with its `run_dir` resumes it.

    Example:
        >>> import signs_dist as sd
        >>> tiny = ["data.synthetic.train=32", "data.synthetic.val=6", "data.synthetic.test=6", "train.epochs=1"]
        >>> result = sd.fit(sd.load_config(None, tiny), run_dir="runs/tiny", quiet=True)
        val accuracy ...
        test accuracy ...
        >>> result["steps"], result["run_dir"].name, result["val_images"]
        (1, 'tiny', 6)
    """
    require_kind("config", config, Config, 'fit(load_config("configs/signs.yaml"))')
    accepted = accepted_names([accept_change] if isinstance(accept_change, str) else list(accept_change))
    context = read_context()
    launch_id = context.launch_id if context.may_restart else ""
    run_path = Path(run_dir) if run_dir else default_run_path("fit", datetime.datetime.now(), launch_id=launch_id)
    folder = RunFolder(run_path)
    config = decide(config, run_path).config
    # Several processes may look at different moments: they decide together, in training/earlier_attempt.py.
    if run_dir and context.world_size == 1 and is_result_of(folder, config, accepted):
        return {**(folder.read_result() or {}), "run_dir": run_path}
    with _torch_as_before(), unblocked(sys.stdout) as output:
        return start_run(
            config,
            run_path,
            context=context,
            screen=Screen(
                is_terminal=context.is_terminal,
                quiet=quiet,
                is_silent=context.rank != 0,
                is_notebook=is_in_notebook(),
                file=output,
            ),
            device=device,
            accepted=accepted,
            command=["signs_dist.fit"],
            is_library=True,
            is_new_folder=not run_dir and not launch_id,
        )


@contextlib.contextmanager
def _torch_as_before() -> Iterator[None]:
    """After the block, the environment and torch's threads, random state and choice of kernels are as before."""
    environment = dict(os.environ)
    was_cuda_used = _cuda_is_used()
    devices = range(torch.cuda.device_count()) if was_cuda_used else ()
    try:
        with arithmetic_kept(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        if _cuda_is_used() and not was_cuda_used:
            torch.cuda.manual_seed_all(torch.initial_seed())  # as at the start of CUDA
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


def _cuda_is_used() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
