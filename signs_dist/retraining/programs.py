"""Running a part of a recorded run on this process, or on a number of processes of this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from signs_dist.config.settings import Config
from signs_dist.console.screen import Screen
from signs_dist.distributed.device_choice import plan_process
from signs_dist.distributed.exactness import arithmetic_kept, choose_cublas_workspace
from signs_dist.environment.context import read_context
from signs_dist.training.process import Process
from signs_dist.training.start import run_process


def run_here(
    config: Config, work: Callable[[Process], dict[str, Any]], *, device: str = "auto", shows: bool = False
) -> dict[str, Any]:
    """Do work as this process of those that its launcher started: alone, if none did.

    Args:
        config: of what is trained.
        work: gets the process; the same on all processes.
        device: auto, cpu, cuda or cuda:N.
        shows: whether preparing the images is shown, on standard error.

    Returns:
        What `work` returns.
    """
    context = read_context()
    is_terminal = shows and sys.stderr.isatty()
    screen = Screen(is_terminal=is_terminal, quiet=not shows, is_silent=context.rank != 0, file=sys.stderr)
    with arithmetic_kept():  # a command trains several parts one after the other
        if config.exact:
            choose_cublas_workspace()  # before CUDA starts
        plan = plan_process(context, device=device)
        return run_process(lambda process, _: work(process), plan, context, screen, config.processes, is_library=True)
