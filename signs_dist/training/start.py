"""Starting a run on this process: choose its devices, connect the processes, supervise the training."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from signs_dist.config.settings import Config, ProcessesConfig
from signs_dist.console.screen import Screen
from signs_dist.distributed.device_choice import describe_devices, plan_process
from signs_dist.distributed.exactness import choose_cublas_workspace, refuse_data_parallel
from signs_dist.distributed.strategy import make_strategy
from signs_dist.environment.context import Context
from signs_dist.environment.devices import DevicePlan
from signs_dist.training.process import Process
from signs_dist.training.run import train
from signs_dist.training.supervisor import Supervisor


def start_run(
    config: Config,
    run_path: Path,
    *,
    context: Context,
    screen: Screen,
    device: str = "auto",
    data_parallel: bool = False,
    device_ids: str | None = None,
    accepted: Collection[str] = (),
    command: Sequence[str] = (),
    is_library: bool = False,
    is_new_folder: bool = False,
    profile_steps: int | None = None,
) -> dict[str, Any]:
    """Train or resume a run as one of its processes.

    Args:
        config: all settings.
        run_path: the run folder.
        context: which launcher started this process, and which cores it may use.
        screen: standard output and the log.
        device: auto, cpu, cuda, cuda:N or cuda:1,3.
        data_parallel: nn.DataParallel over all visible GPUs.
        device_ids: the GPUs for nn.DataParallel, as numbers among the visible GPUs.
        accepted: names of settings that may differ from the settings of earlier attempts.
        command: the command line, for the manifest.
        is_library: whether a user's own program calls this: a run of one process then raises every error.
        is_new_folder: whether the run folder must be a new one: if it exists, a number is appended to its name.
        profile_steps: how many steps to trace by torch.profiler; None: none.

    Returns:
        The contents of result.json, and `run_dir`.

    Raises:
        UserError: flags, data, model or run folder cannot be used. The supervisor reports other errors.
    """
    if config.exact:
        choose_cublas_workspace()
    plan = plan_process(context, device=device, data_parallel=data_parallel, device_ids=device_ids)
    if config.exact:
        refuse_data_parallel(len(plan.indices))

    def work(process: Process, supervisor: Supervisor) -> dict[str, Any]:
        for note in (context.launch_note, plan.note):
            if note:
                screen.say(note)
        return train(
            config,
            run_path,
            process=process,
            supervisor=supervisor,
            command=command,
            accepted=accepted,
            is_new_folder=is_new_folder,
            profile_steps=profile_steps,
        )

    return run_process(work, plan, context, screen, config.processes, is_library=is_library)


def run_process(
    work: Callable[[Process, Supervisor], dict[str, Any]],
    plan: DevicePlan,
    context: Context,
    screen: Screen,
    config: ProcessesConfig,
    *,
    is_library: bool = False,
) -> dict[str, Any]:
    """Connect this process to the others of the run, do the work under a supervisor, and disconnect."""
    devices = describe_devices(plan)
    supervisor = Supervisor(context, config, devices, screen)
    result: dict[str, Any] = {}

    def connect_and_work() -> None:
        started = time.monotonic()
        strategy = make_strategy(plan, context, config, supervisor.pulse)
        result.update(work(Process(context, devices, strategy, screen, supervisor.pulse, started), supervisor))
        strategy.close()

    run = supervisor.run_for_library if is_library else supervisor.run
    run(connect_and_work)
    return result
