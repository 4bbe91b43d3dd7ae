"""The jobs of a run: which were submitted for it, and what SLURM says of them."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.cluster import ClusterConfig
from signs_dist.environment.process_table import find_descendants, process_state
from signs_dist.errors import UserError
from signs_dist.run_folder.folder import RunFolder, timestamp

SUBMIT = "submit"
"""Folder in a run folder."""
JOBS = "jobs.jsonl"
ANSWER_SECONDS = 30.0
"""How long the controller may take to answer; without one, SLURM's commands try for minutes."""
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED", "STOPPED")
RUNNING = ("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT")
ENDED = (
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"),
    *("OUT_OF_MEMORY", "LAUNCH_FAILED", "RECONFIG_FAIL", "REVOKED"),
    "ENDED",  # ours, of a job on this machine
)
"""squeue(1), JOB STATE CODES. A state that is in none of these lists is of a release to come: such a job lives."""


@dataclasses.dataclass(frozen=True)
class JobState:
    """What SLURM says of a job: `state` such as RUNNING (squeue(1), JOB STATE CODES), "" for one it does not know."""

    job: str
    state: str
    reason: str = ""
    nodes: str = ""
    restarts: int = 0
    exit_code: int = 0

    @property
    def is_waiting(self) -> bool:
        """Whether it is in the queue."""
        return self.state in WAITING

    @property
    def is_alive(self) -> bool:
        """Whether it waits or runs."""
        return bool(self.state) and self.state not in ENDED

    def describe(self) -> str:
        """In a few words."""
        if not self.state:
            return "not known to SLURM any more"
        why = f" ({self.reason})" if self.is_waiting and self.reason not in ("", "None") else ""
        where = f" on {self.nodes}" if self.state in RUNNING and self.nodes else ""
        again = f", requeued {self.restarts} time{'s' if self.restarts > 1 else ''}" if self.restarts else ""
        return f"{self.state.lower()}{why}{where}{again}"


def note_job(run_path: Path, job: str, submission: str) -> None:
    """Write down that a job was submitted for a run."""
    folder = RunFolder(run_path)
    (run_path / SUBMIT).mkdir(exist_ok=True)
    folder.append(run_path / SUBMIT / JOBS, {"job": job, "submission": submission, "time": timestamp()})


def jobs_of(run_path: Path) -> list[str]:
    """The jobs that were submitted for a run, the last at the end."""
    return [str(line["job"]) for line in RunFolder(run_path).read_lines(run_path / SUBMIT / JOBS) if "job" in line]


def submission_time(run_path: Path, job: str) -> float | None:
    """When a job was submitted, in seconds since 1970; None where that is not written down."""
    for line in RunFolder(run_path).read_lines(run_path / SUBMIT / JOBS):
        if line.get("job") == job:
            with contextlib.suppress(LookupError, ValueError, TypeError):
                return datetime.datetime.fromisoformat(line["time"]).timestamp()
    return None


def ask_state(job: str) -> JobState:
    """What the controller says of a job; one it has forgotten, the accounting, where there is one.

    A job of `--cluster local` is a process of this machine.

    Raises:
        UserError: SLURM does not answer: whether the job lives is not known then.
    """
    if job.startswith("local"):
        return JobState(job, "RUNNING" if _local_processes(job) else "ENDED")
    ended, problem = _ask("scontrol", "--oneliner", "show", "job", job)
    if ended is not None:
        return parse_job(job, ended)
    # "not found" is said of an array's element that the controller has forgotten while others are still there.
    if "Invalid job id" not in problem and "not found" not in problem:
        raise UserError(f"SLURM does not answer about job {job}: {problem}. Type the command again when it does.")
    ended = _run("sacct", "--noheader", "--parsable2", "--allocations", "--jobs", job, "--format", "State")
    state = ended.split("\n")[0].split(" ")[0] if ended else ""
    # What the controller has forgotten has ended, even where the accounting was never told so.
    return JobState(job, state if state in ENDED else "")


def find_alive(jobs: Sequence[str]) -> set[str] | None:
    """Which jobs and elements of arrays, such as 7 and 8_3, wait or run, by one question to SLURM; None where it does
    not tell."""
    arrays = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    told = _run("squeue", "--noheader", "--array", "--states=all", "--jobs", arrays, "--format=%F_%K %T")
    if told is None:
        return None
    lines = [line.split() for line in told.split("\n")]
    states = {name.removesuffix("_N/A"): state for name, state in (line for line in lines if len(line) == 2)}
    return {job for job in jobs if JobState(job, states.get(job, "")).is_alive}


def parse_job(job: str, text: str) -> JobState:
    """From one line of `scontrol --oneliner show job`."""
    fields = dict(re.findall(r"(?:^| )(JobState|Reason|NodeList|Restarts|ExitCode)=([^ ]*)", text.split("\n")[0]))
    nodes = fields.get("NodeList", "")
    return JobState(
        job,
        fields.get("JobState", ""),
        fields.get("Reason", ""),
        "" if nodes == "(null)" else nodes,
        int(fields.get("Restarts") or 0),
        int(fields.get("ExitCode", "0:0").split(":")[0] or 0),
    )


def find_run_of_job(job: str) -> Path | None:
    """The run folder of a job that SLURM still knows, by where its batch script writes."""
    found = re.search(
        rf" StdOut=(.+?)/{SUBMIT}/[0-9]+/submitit/", _run("scontrol", "--oneliner", "show", "job", job) or ""
    )
    return Path(found[1]) if found else None


def parse_config(text: str) -> dict[str, str]:
    """The settings of `scontrol show config`."""
    return {
        name.strip(): value.strip()
        for name, found, value in (line.partition("=") for line in text.split("\n"))
        if found
    }


def read_slurm_config() -> dict[str, str]:
    """The cluster's settings; empty where SLURM does not tell."""
    return parse_config(_run("scontrol", "show", "config") or "")


def read_partitions() -> list[dict[str, str]]:
    """The settings of each partition; empty where SLURM does not tell."""
    return parse_lines(_run("scontrol", "--all", "--oneliner", "show", "partition") or "")


def read_nodes() -> list[dict[str, str]]:
    """What is known of each node; empty where SLURM does not tell."""
    return parse_lines(_run("scontrol", "--oneliner", "show", "nodes") or "")


def parse_lines(text: str) -> list[dict[str, str]]:
    """The fields of each line of `scontrol --oneliner`: words with a = in them."""
    lines = [re.findall(r"(?:^| )(\w+)=(\S*)", line) for line in text.split("\n")]
    return [dict(fields) for fields in lines if fields]


def describe_requeue(slurm: Mapping[str, str], partition: Mapping[str, str], cluster: ClusterConfig) -> list[str]:
    """What will happen when the job has to go: at its time limit, and when another needs its nodes.

    Args:
        slurm: settings of `scontrol show config`.
        partition: settings of the job's partition.
        cluster: what the job asks for.
    """
    lines = [
        f"at the time limit: saved and requeued {cluster.signal_seconds} s before it, at most {cluster.max_timeouts} "
        f"times; {cluster.max_requeues} requeues in all"
    ]
    mode = partition.get("PreemptMode", slurm.get("PreemptMode", "OFF"))
    kill, grace = slurm.get("KillWait", "30 sec").split(" ")[0], partition.get("GraceTime", "0")
    if slurm.get("PreemptType", "preempt/none") == "preempt/none" or mode == "OFF":
        lines.append("preemption: never on this partition")
    elif mode.startswith(("SUSPEND", "GANG")):
        lines.append("preemption: the job is suspended, and goes on where it was")
    elif mode != "REQUEUE" and grace == "0":
        lines.append(f"preemption: SLURM does {mode} here, and the job does not come back by itself")
    elif mode != "REQUEUE":
        lines.append(f"preemption: told {grace} s before, saved and requeued by its own script: SLURM does {mode} here")
    elif "preempt_send_user_signal" in slurm.get("SlurmctldParameters", "") and grace != "0":
        lines.append(f"preemption: signalled {grace} s before, saved and requeued")
    else:
        lines.append(f"preemption: SIGTERM, saved within {kill} s if that is enough, and requeued by SLURM")
    return lines


def cancel(jobs: Sequence[str]) -> None:
    """Take jobs out of the queue, or end them. Raises `UserError` if SLURM refuses."""
    for job in jobs:
        for pid in _local_processes(job) if job.startswith("local") else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
    jobs = [job for job in jobs if not job.startswith("local")]
    if not jobs:
        return
    told, problem = _ask("scancel", *jobs)
    if told is None:
        raise UserError(f"scancel {' '.join(jobs)} failed: {problem}")


def _local_processes(job: str) -> list[int]:
    """The tasks of a job of submitit's local executor, and all below; what looks after them may be gone.

    They are known by a variable of their environment. While none is there yet, what starts them counts, by its command:
    long after the job its number may be any other process's.
    """
    number = job.removeprefix("local")
    mark = f"SUBMITIT_LOCAL_JOB_ID={number}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    with contextlib.suppress(OSError, ValueError):
        if not found and b"submitit.local" in Path(f"/proc/{int(number)}/cmdline").read_bytes():
            found = [int(number), *find_descendants(int(number))]
    return [pid for pid in found if process_state(pid) != "gone"]


def _run(*command: str) -> str | None:
    """What a command of SLURM's says; None where it fails, is not there, or finds no controller in time."""
    return _ask(*command)[0]


def _ask(*command: str) -> tuple[str | None, str]:
    """(what a command of SLURM's says, or None; what is wrong)."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None, f"{command[0]} found no controller within {ANSWER_SECONDS:g} s"
    except OSError as error:
        return None, f"{command[0]}: {error.strerror}"
    problem = " ".join((ended.stderr or ended.stdout).split())  # "Job 7_0 not found" comes on standard output
    return (ended.stdout.strip(), "") if ended.returncode == 0 else (None, problem or f"exit code {ended.returncode}")
