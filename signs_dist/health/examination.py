"""All checks in their order, from top to bottom: what each rank measures, and what rank 0 makes of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signs_dist.config.settings import Config
from signs_dist.environment.context import Context
from signs_dist.environment.slurm_job import read_step
from signs_dist.health import (
    arithmetic,
    collectives,
    compute,
    cores,
    data_speed,
    devices,
    limits,
    run_folder,
    slurm,
    versions,
)
from signs_dist.health.attempts import attempt, is_broken, split_broken
from signs_dist.health.beginning import begin_visit
from signs_dist.health.connections import Connections, check_connections
from signs_dist.health.finding import Finding
from signs_dist.health.visit import Tell, Visit

IMPORT_SECONDS = 100.0
"""How long torch may take to be imported: from a shared file system the first time takes a minute."""
LIMITS = {
    "here": 5.0,
    "busy": 5.0,
    compute.CHECK: 15.0,
    run_folder.CHECK: 30.0,
    "same view": 2 * run_folder.LOOK_SECONDS,
    collectives.CHECK: 2 * collectives.TIMEOUT_SECONDS,
    arithmetic.CHECK: 45.0,
    data_speed.CHECK: 90.0,
    slurm.CHECK: 60.0,
    "end": 2.0,
}
"""How many seconds each check may take on a rank. It takes one or two; the rest is for disks and drivers that wait."""


@dataclasses.dataclass(frozen=True)
class Wish:
    """What is to be examined.

    Attributes:
        config: of the run.
        has_config: whether a person has named it: its data are measured only then.
        run_folder: where the run would write.
        is_run: whether a person has named the folder, whose last save is read then.
        signal_seconds: how long before its time limit a job is signalled.
        device: `--device`.
    """

    config: Config
    has_config: bool
    run_folder: Path
    is_run: bool = False
    signal_seconds: int = slurm.DEFAULT_SIGNAL_SECONDS
    device: str = "auto"


def examine(wish: Wish, context: Context, tell: Tell) -> list[Finding]:
    """Make all checks; all ranks call this.

    Args:
        wish: what is to be examined.
        context: of this process.
        tell: gets the findings of each check on rank 0, as soon as they are there.

    Returns:
        All findings on rank 0; none on other ranks.

    Raises:
        PeerLostError: on another rank than 0: rank 0 does not answer.
    """
    here = look_here(context, wish.device)
    visit = begin_visit(context, tell)
    try:
        if context.world_size > 1 and visit.meeting is None:  # on rank 0, whose others did not come
            judge_here(visit, wish, {name: {0: reading} for name, reading in here.items()}, {})
            return visit.findings
        check_here(visit, wish, here)
        device = own_device(here)
        check_compute(visit, device)
        check_run_folder(visit, wish.run_folder)
        check_all_reduce(visit, device, check_connections(visit))
        check_arithmetic(visit, wish.config, device)
        check_data(visit, wish, device)
        check_slurm(visit, wish)
        check_signal(visit)
        visit.gather("end", lambda: None, LIMITS["end"])
        visit.stages.leave()
    finally:
        visit.stages.close()
    return visit.findings


def look_here(context: Context, device: str = "auto") -> dict[str, Any]:
    """What each rank can measure by itself, before it meets the others."""
    return {
        "versions": attempt(versions.read_versions, IMPORT_SECONDS),
        "devices": attempt(lambda: devices.read_devices(context, device), 30.0),
        "cores": attempt(lambda: cores.read_cores(context), 5.0),
        "limits": attempt(limits.read_amounts, 5.0),
    }


def own_device(here: Mapping[str, Any]) -> str:
    """The device of this rank, as torch names it; the CPU where it could not be chosen."""
    index = None if is_broken(here["devices"]) else here["devices"].get("index")
    return "cpu" if index is None else f"cuda:{index}"


def check_here(visit: Visit, wish: Wish, here: Mapping[str, Any]) -> None:
    """Versions, devices, cores and limits."""
    gathered, broken = visit.gather("here", lambda: dict(here), LIMITS["here"])
    visit.say(broken)
    busy, _ = visit.gather("busy", cores.read_busy, LIMITS["busy"], visit.leaders)  # the other ranks sleep meanwhile
    if visit.is_main:
        by_name = {name: {rank: readings[name] for rank, readings in gathered.items()} for name in here}
        judge_here(visit, wish, by_name, busy)


def judge_here(
    visit: Visit, wish: Wish, readings: Mapping[str, Mapping[int, Any]], busy: Mapping[int, float | None]
) -> None:
    """Tell what is found about versions, devices, cores and limits.

    Args:
        visit: to all ranks.
        wish: what is to be examined.
        readings: what `look_here` gives, by name and rank.
        busy: cores that others keep busy, of the ranks that speak for their machines.
    """
    whole: dict[str, dict[int, Any]] = {}
    found: list[Finding] = []
    for name, of_ranks in readings.items():
        whole[name], broken = split_broken(name, of_ranks, visit.places)
        found += broken
    places, leaders = visit.places, visit.leaders
    if whole["versions"]:
        found += versions.judge(whole["versions"], places, devices.find_driver(whole["devices"]))
    if whole["devices"]:
        found += devices.judge(whole["devices"], places, [rank for rank in leaders if rank in whole["devices"]])
    if whole["cores"]:
        found += cores.judge(whole["cores"], busy, places)
    if whole["limits"]:
        need = find_need(wish.config, visit.context)
        found += limits.judge(whole["limits"], places, [rank for rank in leaders if rank in whole["limits"]], need)
    visit.say(found)


def find_need(config: Config, context: Context) -> limits.Need:
    """What a run of this config takes on this machine."""
    from signs_dist.data.loader import choose_loader_settings

    settings = choose_loader_settings(
        config.data, usable_cores=context.cores_per_process, on_gpu=False, per_sample_work=True
    )
    return limits.Need(
        settings.num_workers,
        settings.prefetch,
        batch_bytes=-(-config.train.global_batch // context.world_size) * 3 * config.data.image_size**2,
        num_ranks=context.local_world_size,
        world_size=context.world_size,
    )


def check_compute(visit: Visit, device: str) -> None:
    """How fast each rank computes, all at once."""
    readings, found = visit.gather(compute.CHECK, lambda: compute.measure(device), LIMITS[compute.CHECK])
    if readings:
        found.append(compute.judge(readings, visit.places))
    visit.say(found)


def check_run_folder(visit: Visit, folder: Path) -> None:
    """The run folder on each machine, and whether all machines see the same."""
    limit, leaders = LIMITS[run_folder.CHECK], visit.leaders
    readings, found = visit.gather(run_folder.CHECK, lambda: run_folder.measure(folder), limit, leaders)
    found += run_folder.judge(readings, visit.places) if readings else []
    visit.say(found)
    others = [rank for rank in leaders if rank != 0]
    if others and readings.get(0, {}).get("problem", "no answer"):  # all ranks know it, and go on together
        told = f"{visit.places[0]} cannot write to the run folder, and the others look for what it writes"
        visit.say([Finding("same view", "skip", told)])
        return
    view = run_folder.SharedView(folder, visit.token.decode())
    times: list[dict[int, float | None]] = []
    for text in ("first", "second") if others else ():

        def measure(text: str = text) -> float | None:
            if not visit.is_main:
                return view.look(text)
            view.write(text)
            return None

        seen, broken = visit.gather("same view", measure, LIMITS["same view"], leaders)
        visit.say(broken)
        times.append(seen)
    if visit.is_main and others:
        view.remove()
    both = {rank: (times[0][rank], times[1][rank]) for rank in others if all(rank in seen for seen in times)}
    if both or not others:
        visit.say(run_folder.judge_view(both, visit.places, str(run_folder.existing(folder))))


def check_all_reduce(visit: Visit, device: str, connections: Connections) -> None:
    """All-reduce, which needs all ranks and all their connections."""
    meeting = visit.meeting
    if meeting is None:
        visit.say([Finding(collectives.CHECK, "skip", "one rank, which sums with no other")])
        return
    lost = visit.describe_lost()
    if lost or not connections.is_complete:
        why = f"{lost} does not answer" if lost else "not all ranks reach each other"
        visit.say([Finding(collectives.CHECK, "skip", f"not measured: {why}, and it needs all ranks")])
        return
    readings, found = visit.gather(
        collectives.CHECK, lambda: collectives.measure(visit.context, device, meeting), LIMITS[collectives.CHECK]
    )
    if readings and not found:
        pair = connections.slowest if device == "cpu" else None  # NCCL goes other ways
        found.append(collectives.judge(readings, visit.places, pair))
    visit.say(found)


def check_arithmetic(visit: Visit, config: Config, device: str) -> None:
    """Whether all ranks compute the same bits."""
    host = visit.context.host
    readings, found = visit.gather(
        arithmetic.CHECK, lambda: arithmetic.measure(config, device, host), LIMITS[arithmetic.CHECK]
    )
    if readings and visit.is_main:
        found.append(arithmetic.judge(readings, visit.places, is_exact=config.exact))
    visit.say(found)


def check_data(visit: Visit, wish: Wish, device: str) -> None:
    """Disk and loader against the network, on rank 0."""
    if not wish.has_config:
        told = "not measured, since no config is given: type --config FILE data.root=PHOTOS"
        visit.say([Finding(data_speed.CHECK, "skip", told)])
        return
    readings, found = visit.gather(
        data_speed.CHECK, lambda: data_speed.measure(wish.config, visit.context, device), LIMITS[data_speed.CHECK], [0]
    )
    mend = "--config FILE and data.root=PHOTOS of the run, on a machine that sees the photos"
    broken = [dataclasses.replace(each, expected="photos that can be read", mend=mend) for each in found]
    visit.say([*broken, *(data_speed.judge(data_speed.from_plain(reading)) for reading in readings.values())])


def check_slurm(visit: Visit, wish: Wish) -> None:
    """What SLURM says, on rank 0."""
    folder = wish.run_folder if wish.is_run and wish.run_folder.is_dir() else None
    readings, found = visit.gather(slurm.CHECK, lambda: slurm.read_slurm(folder), LIMITS[slurm.CHECK], [0])
    for reading in readings.values():
        found += slurm.judge(reading, wish.signal_seconds)
    visit.say(found)


def check_signal(visit: Visit) -> None:
    """Whether SLURM's signal arrives at each rank that srun has started."""
    step = read_step(os.environ)
    if not visit.context.is_by_slurm or not step:
        return
    watch = slurm.SignalWatch(step)
    try:
        visit.gather("ready", lambda: None, LIMITS["here"])  # each rank now handles the signal
        sent, found = visit.gather("send", watch.send, slurm.ANSWER_SECONDS + 2, [0])
        problem = str(sent.get(0, "") or "")
        seconds = 0.1 if problem or found else slurm.ARRIVAL_SECONDS
        arrived, broken = visit.gather("signal", lambda: watch.wait(seconds), seconds + 5)
    finally:
        watch.close()
    visit.say([*found, *broken, *([] if found else [slurm.judge_signal(arrived, problem, visit.places)])])
