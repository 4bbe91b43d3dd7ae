"""Replaying on this process, or on several processes of this machine, each of which writes what it saw into a file."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from signs_dist.checkpointing.cursor import Cursor
from signs_dist.distributed.device_choice import plan_process
from signs_dist.environment.context import read_context
from signs_dist.environment.subprocesses import count_processes, failure_of, last_lines, launch_command, started
from signs_dist.errors import TrainingFailedError
from signs_dist.learning.precision import find_capability
from signs_dist.replaying.adapting import adapt
from signs_dist.replaying.evidence import Compared, Recorded
from signs_dist.replaying.records import from_plain, merged, to_plain
from signs_dist.replaying.request import Request
from signs_dist.replaying.run import Look, Replayed, replay
from signs_dist.retraining.again import config_again
from signs_dist.retraining.programs import run_here
from signs_dist.retraining.recorded_run import RecordedRun, State, read_recorded_run
from signs_dist.training.process import Process

LONGEST_SECONDS = 14 * 24 * 3600.0
"""How long several processes may take: their own limits end them earlier, unless their launcher hangs."""
PROGRAM = "signs_dist.replaying.program"


def replay_here(
    run: RecordedRun,
    start: State,
    request: Request,
    recorded: Recorded,
    look: Look | None = None,
    *,
    shows: bool = False,
) -> Replayed:
    """Replay as this process of those that its launcher started: alone, if none did. Arguments as for `replay`."""
    context = read_context()
    device = torch.device(plan_process(context, device=request.device).kind)
    config, adapted = adapt(
        config_again(run, data=request.data),
        find_capability(device),
        world_size=context.world_size,
        world_size_of_run=run.world_size,
    )
    found: list[Replayed] = []

    def work(process: Process) -> dict[str, Any]:
        found.append(replay(process, run, start, request, recorded, config, adapted, look))
        return {}

    run_here(config, work, device=request.device, shows=shows)
    return found[0]


def replay_on(num_processes: int, start: State, request: Request, recorded: Recorded) -> Replayed:
    """Replay on several processes of this machine.

    Raises:
        UserError: the processes were given wrong input.
        TrainingFailedError: they failed, or did not end.
    """
    with tempfile.TemporaryDirectory(prefix="signs_dist-replay-") as name:
        folder = Path(name)
        (folder / "task.json").write_text(task_to_json(start, request, recorded), encoding="utf-8")
        output = folder / "output"
        what = f"the replay on {count_processes(num_processes)}"
        with started(launch_command(PROGRAM, num_processes, [name]), output) as process:
            try:
                code = process.wait(LONGEST_SECONDS)
            except subprocess.TimeoutExpired:
                raise TrainingFailedError(
                    "\n".join([f"{what} did not end. It printed:", *last_lines(output)])
                ) from None
        if code:
            raise failure_of(what, code, output)
        every = [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(num_processes)]
    first = every[0]
    return Replayed(
        steps=merged([from_plain(each["steps"]) for each in every]),
        compared=Compared.from_plain(first["compared"]),
        **{name: first[name] for name in ("files", "classes", "trained_steps", "seconds", "factor", "offset")},
    )


def run_program(folder: Path, rank: int) -> None:
    """Replay as one of several processes, and write what was seen into `folder`."""
    start, request, recorded = task_from_json((folder / "task.json").read_text(encoding="utf-8"))
    found = replay_here(read_recorded_run(Path(request.run_dir)), start, request, recorded)
    content = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    content |= {"steps": to_plain(found.steps), "compared": dataclasses.asdict(found.compared)}
    torch.save(content, folder / f"rank{rank}.pt")


def task_to_json(start: State, request: Request, recorded: Recorded) -> str:
    """What several processes are to do, as JSON."""
    place = [start.cursor.epoch, start.cursor.step, start.steps_done, str(start.path) if start.path else None]
    return json.dumps({"start": place, "request": request.to_json(), "recorded": dataclasses.asdict(recorded)})


def task_from_json(text: str) -> tuple[State, Request, Recorded]:
    """What `task_to_json` was given."""
    values = json.loads(text)
    epoch, step, steps_done, path = values["start"]
    recorded = values["recorded"]
    by_step = {name: {int(step): value for step, value in recorded[name].items()} for name in ("losses", "states")}
    start = State(Cursor(epoch, step), steps_done, Path(path) if path is not None else None)
    return start, Request.from_json(values["request"]), Recorded(**by_step, last_step=recorded["last_step"])
