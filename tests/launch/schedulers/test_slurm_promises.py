"""What SLURM has noted of a job, beside what was asked for, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launch.cluster import ClusterConfig
from launch.job import Job
from launch.schedulers.base import Submission
from launch.schedulers.slurm_promises import compare

ASKED: dict[str, Any] = {
    "nodes": "2",
    "gpus_per_node": 4,
    "gpu_type": "a100",
    "cpus_per_task": 8,
    "memory": "64G",
    "time": "2:00:00",
    "partition": "gpu,long",
    "account": "Physics",
    "qos": "high",
    "constraint": "fast",
    "extra": {"reservation": "course"},
}
SHOWN = (
    "JobId=7 JobName=a Account=physics QOS=high JobState=PENDING Reason=Priority Requeue=1 Restarts=0 "
    "TimeLimit=02:00:00 TimeMin=N/A Partition=gpu,long NumNodes=2-2 NumCPUs=64 NumTasks=8 CPUs/Task=8 "
    "MinCPUsNode=32 MinMemoryNode=64G MinTmpDiskNode=0 Features=fast Reservation=course "
    "Command=/home/my runs/a/submit/001/submitit/submission.sh WorkDir=/home "
    "StdOut=/home/my runs/a/submit/001/submitit/7_0_log.out Power= TresPerNode=gres:gpu:a100:4"
)


def lines(shown: str, **values: Any) -> list[tuple[str, bool]]:
    folder = Path("/home/my runs/a/submit/001")
    job = Job((), run_folder="/home/my runs/a", working_folder="/work", import_folders=("/code",))
    found = compare(Submission(ClusterConfig(**(ASKED | values)), (job,), folder, "a"), shown)
    return [(difference.line, difference.is_harmful) for difference in found]


def test_a_job_that_is_as_it_was_asked_for() -> None:
    assert lines(SHOWN) == []
    assert lines("") == []  # SLURM does not answer
    assert lines(SHOWN.replace("NumNodes=2-2", "NumNodes=2").replace("Partition=gpu,long", "Partition=long")) == []
    later = SHOWN.replace("gres:gpu:a100:4", "gres/gpu:a100:4").replace("MinMemoryNode=64G", "MinMemoryNode=65536M")
    assert lines(later) == []
    without_accounting = SHOWN.replace("physics", "(null)").replace("QOS=high", "QOS=(null)")
    assert lines(without_accounting) == []


@pytest.mark.parametrize(
    ("before", "after", "line", "is_harmful"),
    [
        (
            "TimeLimit=02:00:00",
            "TimeLimit=00:30:00",
            "--time 2:00:00: SLURM gives 30 min: the run is saved and requeued that often",
            True,
        ),
        (
            "TimeLimit=02:00:00",
            "TimeLimit=00:02:00",
            "--time 2:00:00: SLURM gives 2 min, and the signal 120 s before it comes at the start: no step is made",
            True,
        ),
        ("TimeLimit=02:00:00", "TimeLimit=1-00:00:00", "--time 2:00:00: SLURM gives 24 h", False),
        ("TimeLimit=02:00:00", "TimeLimit=UNLIMITED", "--time 2:00:00: SLURM gives no time limit", False),
        ("NumNodes=2-2", "NumNodes=1", "--nodes 2: SLURM gives 1", True),
        ("NumNodes=2-2", "NumNodes=2-4", "--nodes 2: SLURM gives 2-4", False),
        ("NumTasks=8", "NumTasks=2", "8 tasks in all: SLURM starts 2", True),
        ("CPUs/Task=8", "CPUs/Task=1", "8 cores of each task: SLURM gives 1", True),
        ("CPUs/Task=8", "CPUs/Task=16", "8 cores of each task: SLURM gives 16", False),
        ("gres:gpu:a100:4", "gres:gpu:a100:2", "--gpus-per-node 4: SLURM gives 2", True),
        (" TresPerNode=gres:gpu:a100:4", "", "--gpus-per-node 4: SLURM gives none", True),
        ("gres:gpu:a100:4", "gres:gpu:4", "--gpu-type a100: SLURM gives GPUs of any kind", False),
        ("MinMemoryNode=64G", "MinMemoryNode=4000M", "--memory 64G: SLURM gives 4000M on each node", True),
        ("MinMemoryNode=64G", "MinMemoryNode=1T", "--memory 64G: SLURM gives 1T on each node", False),
        ("Partition=gpu,long", "Partition=debug", "--partition gpu,long: SLURM takes debug", False),
        ("Account=physics", "Account=guests", "--account Physics: SLURM takes guests", False),
        ("QOS=high", "QOS=normal", "--qos high: SLURM takes normal", False),
        ("Features=fast", "Features=slow", "--constraint fast: SLURM takes slow", False),
        ("Reservation=course", "Reservation=other", "--extra reservation course: SLURM takes other", False),
        (
            "Requeue=1",
            "Requeue=0",
            "requeue: SLURM does not requeue this job, so it ends at its time limit",
            True,
        ),
        (
            "StdOut=/home/my runs/a/submit/001/submitit/7_0_log.out",
            "StdOut=/site/7.out",
            "output: SLURM writes it to /site/7.out, where `logs` does not look",
            False,
        ),
    ],
)
def test_each_difference_is_a_line(before: str, after: str, line: str, is_harmful: bool) -> None:
    assert before in SHOWN
    assert lines(SHOWN.replace(before, after)) == [(line, is_harmful)]


@pytest.mark.parametrize(
    ("values", "before", "after"),
    [
        # With a range of nodes there is one task for each node of the most, with the cores of a node.
        (
            {"nodes": "1-4", "agent": "torchrun"},
            "NumNodes=2-2 NumCPUs=64 NumTasks=8 CPUs/Task=8",
            "NumNodes=1-4 NumTasks=4 CPUs/Task=32",
        ),
        ({"nodes": "1-4"}, "NumNodes=2-2 NumCPUs=64 NumTasks=8 CPUs/Task=8", "NumNodes=3 NumTasks=16 CPUs/Task=32"),
        ({"binds_gpus": True}, "TresPerNode=gres:gpu:a100:4", "TresPerTask=gres:gpu:a100:1"),
        ({"binds_gpus": True}, "TresPerNode=gres:gpu:a100:4", "TresPerTask=cpu=8,gres/gpu:a100=1"),
        ({"cpus_per_task": None}, "CPUs/Task=8", "CPUs/Task=2"),
        ({"memory": None}, "MinMemoryNode=64G", "MinMemoryNode=4000M"),
        ({"memory": "0"}, "MinMemoryNode=64G", "MinMemoryNode=0"),
        ({"partition": None, "account": None}, "Partition=gpu,long", "Partition=debug"),
        ({"gpu_type": None}, "gpu:a100:4", "gpu:4"),
    ],
)
def test_what_was_not_asked_for_or_is_written_otherwise_is_no_difference(
    values: dict[str, Any], before: str, after: str
) -> None:
    assert lines(SHOWN.replace(before, after), **values) == []


def test_gpus_that_were_not_asked_for_are_told() -> None:
    shown = SHOWN.replace("NumTasks=8", "NumTasks=2")
    told = lines(shown, gpus_per_node=0, gpu_type=None)
    assert told == [("--gpus-per-node 0: SLURM gives GPUs all the same, which the run does not use", False)]
