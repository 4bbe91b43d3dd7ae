"""SLURM: partitions and limits, preemption, requeues, KillWait against the last save, and whether signals arrive."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from signs_dist.environment.installation import add_checkout_to_path, full_name
from signs_dist.environment.slurm_job import read_job_attempt, read_step, slurm_version
from signs_dist.health.finding import Finding, Place, listed, places_of

CHECK = "slurm"
QUESTIONS = "launch.schedulers.slurm_questions"
"""The module that asks SLURM. It is imported by name: its room comes after this one."""
ARRIVAL_SECONDS = 10.0
LATE_SECONDS = 3.0
ANSWER_SECONDS = 8.0
DEFAULT_SIGNAL_SECONDS = 120


def read_slurm(run_folder: Path | None) -> dict[str, Any]:
    """What SLURM says, as plain values; `why` says why there is nothing to read.

    Args:
        run_folder: of a run, whose last save is compared; None without one.
    """
    if shutil.which("scontrol") is None:
        return {"why": "no SLURM on this machine (no scontrol in PATH)", "in_job": bool(read_step(os.environ))}
    add_checkout_to_path()
    questions = import_module(full_name(QUESTIONS))
    config = questions.read_slurm_config()
    if not config:
        return {"why": "SLURM does not answer (scontrol show config)", "in_job": bool(read_step(os.environ))}
    shown = questions.show_job(read_job_attempt(os.environ).job) if read_step(os.environ) else ""
    return {
        "config": config,
        "partitions": questions.read_partitions(),
        "job": dict(re.findall(r"(?:^| )([A-Za-z/:]+)=(\S*)", shown.split("\n")[0])),
        "save_seconds": None if run_folder is None else last_save_seconds(run_folder),
    }


def last_save_seconds(run_folder: Path) -> float | None:
    """How long the last save of a run took to write; None for a folder that holds none."""
    from signs_dist.run_folder.folder import RunFolder
    from signs_dist.run_folder.records import SaveLine, of_kind

    folder = RunFolder(run_folder, is_writer=False)
    took = [line.last_write_seconds for line in of_kind(folder.read_metrics(), SaveLine) if line.last_write_seconds]
    return took[-1] if took else None


def judge(reading: Mapping[str, Any], signal_seconds: int = DEFAULT_SIGNAL_SECONDS) -> list[Finding]:
    """The findings about SLURM.

    Args:
        reading: from `read_slurm`.
        signal_seconds: how long before its time limit a job is signalled.
    """
    if "why" in reading:
        is_fault = reading["in_job"]
        mend = "module load slurm, or ask an administrator for scontrol on the compute nodes" if is_fault else ""
        expected = "scontrol on the compute nodes, for the decision on a requeue" if is_fault else ""
        return [Finding(CHECK, "warn" if is_fault else "skip", reading["why"], expected, mend)]
    config, job = reading["config"], reading["job"]
    partitions = _of_job(reading["partitions"], job)
    return [
        judge_partitions(config, partitions),
        judge_requeue(config, job),
        judge_preemption(config, partitions, reading["save_seconds"]),
        judge_time_to_save(config, reading["save_seconds"], signal_seconds),
    ]


def _of_job(partitions: Sequence[Mapping[str, str]], job: Mapping[str, str]) -> list[Mapping[str, str]]:
    """The partition of the job that this process is in; outside of a job all of them."""
    named = job.get("Partition", "").split(",")
    return [each for each in partitions if each.get("PartitionName") in named] or list(partitions)


def judge_partitions(config: Mapping[str, str], partitions: Sequence[Mapping[str, str]]) -> Finding:
    """Which partitions there are, with their limits; a warning for one that takes no jobs."""
    told = listed(
        f"{each.get('PartitionName')}{' (the default)' if each.get('Default') == 'YES' else ''} up to "
        f"{each.get('MaxTime', 'UNLIMITED')} on {each.get('TotalNodes', '?')} nodes"
        for each in partitions
    )
    measured = f"{' '.join(filter(None, ['SLURM', slurm_version(config)]))}: {told or 'no partition'}"
    down = [each.get("PartitionName", "") for each in partitions if each.get("State", "UP") != "UP"]
    if down or not partitions:
        what = f"{listed(down)} takes no jobs now; {measured}" if down else measured
        return Finding(CHECK, "warn", what, "a partition that is UP", "sinfo shows why; name another by --partition")
    return Finding(CHECK, "ok", measured)


def judge_requeue(config: Mapping[str, str], job: Mapping[str, str]) -> Finding:
    """Whether SLURM puts a job back into the queue."""
    expected = "a job that SLURM may requeue, after its time limit, a preemption or a lost node"
    if job and job.get("Requeue", "1") != "1":
        mend = (
            "submit it with launch/submit.py, or sbatch --requeue; a site's plugin may forbid it: ask an administrator"
        )
        return Finding("requeue", "warn", "SLURM does not requeue this job", expected, mend)
    default = "requeued" if config.get("JobRequeue", "1") == "1" else "not requeued, unless it asks for it as ours do"
    return Finding("requeue", "ok", f"jobs are {default}", expected)


def judge_preemption(
    config: Mapping[str, str], partitions: Sequence[Mapping[str, str]], save_seconds: float | None
) -> Finding:
    """What happens to a job that makes room for another: whether there is time to save, and whether it comes back."""
    name, expected = "preemption", "a signal, time for a save, and a requeue"
    if config.get("PreemptType", "preempt/none") == "preempt/none":
        return Finding(name, "ok", "never on this cluster")
    told, bad = [], []
    has_signal = "preempt_send_user_signal" in config.get("SlurmctldParameters", "")
    kill = _number(config.get("KillWait", "30"))
    for each in partitions:
        partition, mode = each.get("PartitionName", ""), each.get("PreemptMode", config.get("PreemptMode", "OFF"))
        grace = _number(each.get("GraceTime", "0"))
        if mode == "OFF":
            told.append(f"{partition}: never")
        elif mode.startswith(("SUSPEND", "GANG")):
            told.append(f"{partition}: suspended and resumed")
        else:
            time_left = grace if grace else kill
            told.append(f"{partition}: {mode}, {time_left:g} s after the signal")
            if mode != "REQUEUE" and not grace:
                bad.append(f"on {partition} a preempted job is ended and not requeued ({mode}, GraceTime=0)")
            elif save_seconds is not None and save_seconds > time_left:
                bad.append(
                    f"on {partition} there are {time_left:g} s to save, and the last save took {save_seconds:.0f} s"
                )
            elif grace and not has_signal and mode == "REQUEUE":
                told[-1] = f"{partition}: {mode}, SIGTERM {grace:g} s before"
    if bad:
        mend = "checkpoint.every_seconds saves more often; or a partition that is not preempted (--partition)"
        return Finding(name, "warn", listed(bad), expected, mend)
    return Finding(name, "ok", listed(told), expected)


def judge_time_to_save(config: Mapping[str, str], save_seconds: float | None, signal_seconds: int) -> Finding:
    """KillWait, and the time between the signal and the time limit, against the last save."""
    name, kill = "time to save", _number(config.get("KillWait", "30"))
    told = (
        f"SIGKILL comes {kill:g} s after SIGTERM (KillWait); the signal comes {signal_seconds} s before the time limit"
    )
    if save_seconds is None:
        return Finding(name, "ok", f"{told}; --run-dir of a run compares its last save")
    told = f"the last save took {save_seconds:.1f} s; {told}"
    if save_seconds > signal_seconds / 2:
        return Finding(
            name, "fail", told, "time for twice the last save", f"--signal-seconds {int(4 * save_seconds) + 1}"
        )
    if save_seconds > kill:
        return Finding(
            name,
            "warn",
            told,
            "a save within KillWait, since a preemption without grace time sends SIGTERM alone",
            "checkpoint.every_seconds=300 saves more often; an administrator raises KillWait in slurm.conf",
        )
    return Finding(name, "ok", told, "time for twice the last save")


def _number(text: str) -> float:
    found = re.match(r"\d+", text)
    return float(found[0]) if found else 0.0


class SignalWatch:
    """Waits for the signal that SLURM sends before the time limit, sent here on purpose. Made in the main thread.

    Args:
        step: the step of this process, such as 12.0.
    """

    NUMBER = signal.SIGUSR2

    def __init__(self, step: str) -> None:
        self._step = step
        self._arrived = threading.Event()
        self._before: Any = signal.signal(self.NUMBER, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._arrived.set()

    def close(self) -> None:
        """Handle the signal as before."""
        signal.signal(self.NUMBER, self._before)

    def send(self) -> str:
        """Let SLURM signal all tasks of the step; returns what is wrong, or ""."""
        try:
            ended = subprocess.run(
                ["scancel", f"--signal={self.NUMBER.name.removeprefix('SIG')}", self._step],
                capture_output=True,
                text=True,
                timeout=ANSWER_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if ended.returncode in (0, -self.NUMBER):  # scancel is a process of the step too, and gets the signal
            return ""
        return ended.stderr.strip() or f"exit code {ended.returncode}"

    def wait(self, seconds: float = ARRIVAL_SECONDS) -> float | None:
        """Seconds until the signal arrives; None if it does not."""
        started = time.monotonic()
        return time.monotonic() - started if self._arrived.wait(seconds) else None


def judge_signal(
    arrived: Mapping[int, float | None], problem: str, places: Mapping[int, Place] | None = None
) -> Finding:
    """Whether each rank got the signal, and how late.

    Args:
        arrived: seconds by rank; None: it did not arrive.
        problem: why it could not be sent; "" if it was.
        places: of each rank.
    """
    places = places or places_of(dict.fromkeys(arrived, "this machine"))
    name, expected = "signal", f"SIGUSR2 on each rank within {LATE_SECONDS:g} s, at which a run saves"
    if problem:
        return Finding(
            name, "warn", f"SLURM does not send it: {problem}", expected, "scancel --signal=USR2 JOB by hand"
        )
    missing = [places[rank] for rank, seconds in arrived.items() if seconds is None]
    if missing:
        return Finding(
            name,
            "fail",
            f"SIGUSR2 of SLURM did not reach {listed(missing)} within {ARRIVAL_SECONDS:g} s",
            expected,
            "an administrator looks at slurmd's log there; a container or a script between srun and Python may keep "
            "signals: start Python with exec",
        )
    latest = max(seconds or 0.0 for seconds in arrived.values())
    told = f"SIGUSR2 of SLURM reached {len(arrived)} rank{'s' if len(arrived) > 1 else ''} within {latest:.1f} s"
    if latest > LATE_SECONDS:
        return Finding(name, "warn", told, expected, "a longer --signal-seconds; the controller or the network is slow")
    return Finding(name, "ok", told, expected)
