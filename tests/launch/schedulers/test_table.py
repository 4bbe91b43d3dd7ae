"""The table of schedulers, and which of them a job's id belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from launch import schedulers
from launch.cluster import ClusterConfig
from launch.cluster_file import load_cluster
from launch.request import Request
from launch.schedulers import SCHEDULERS, cancel, find_alive, scheduler_of
from launch.schedulers.base import Findings, JobState, Scheduler, Submission
from signs_dist.errors import UserError


@pytest.mark.parametrize(
    ("job", "kind"), [("7", "slurm"), ("7_3", "slurm"), ("local7", "local"), ("runs/a", "slurm"), ("", "slurm")]
)
def test_a_job_belongs_to_the_scheduler_whose_prefix_its_id_has(job: str, kind: str) -> None:
    assert scheduler_of(job) is SCHEDULERS[kind]


def test_how_many_jobs_an_array_has_and_that_only_debug_is_this_process() -> None:
    assert {kind: each.most_jobs for kind, each in SCHEDULERS.items()} == {"slurm": 1000, "local": 100, "debug": 1}
    assert SCHEDULERS["slurm"].choose_parallel(ClusterConfig(), None) == 8
    assert SCHEDULERS["slurm"].choose_parallel(ClusterConfig(), 3) == 3
    assert [kind for kind, each in SCHEDULERS.items() if each.is_this_process] == ["debug"]


class Bench(Scheduler):
    """A scheduler that remembers what it is told."""

    job_prefix: ClassVar[str] = "bench"
    look_command: ClassVar[str] = "bench list"

    def __init__(self) -> None:
        self.cancelled: list[str] = []

    def check_settings(self, cluster: ClusterConfig) -> None:
        if cluster.gpus_per_node:
            raise ValueError(f"gpus_per_node={cluster.gpus_per_node}: a bench has no GPUs. Type --gpus-per-node 0")

    def check(self, request: Request) -> Findings:
        return Findings({})

    def submit(self, submission: Submission) -> list[str]:
        return ["bench1"]

    def state(self, job: str) -> JobState:
        return JobState(job, "ENDED" if job in self.cancelled else "RUNNING")

    def cancel(self, jobs: Sequence[str]) -> None:
        self.cancelled += jobs

    def logs(self, run_path: Path, job: str) -> list[Path]:
        return []


def test_another_scheduler_is_a_class_and_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.setitem(SCHEDULERS, "bench", bench)
    assert load_cluster("bench", {}).kind == "bench"
    with pytest.raises(UserError, match=r"--gpus-per-node 2: a bench has no GPUs\. Type --gpus-per-node 0\."):
        load_cluster("bench", {"gpus_per_node": 2})
    assert scheduler_of("bench1") is bench
    monkeypatch.setattr(SCHEDULERS["slurm"], "find_alive", set)
    assert find_alive(["7", "bench1", "8_0"]) == {"7", "bench1", "8_0"}
    cancel(["bench1"])
    assert find_alive(["bench1"]) == set()
    assert (bench.script(None), bench.test_only("", ClusterConfig())) == ("", "")  # type: ignore[arg-type]
    assert (bench.find_run("bench1"), bench.find_differences(None, "bench1")) == (None, [])  # type: ignore[arg-type]
    assert bench.read_defaults({"SBATCH_TIMELIMIT": "3"}) == {}
    assert schedulers.ask_state("bench1").state == "ENDED"


@pytest.mark.parametrize(
    ("name", "flags", "told"),
    [
        ("local", {"nodes": "2"}, "--nodes 2: --cluster local is this machine alone. Type --nodes 1."),
        ("debug", {"nodes": "2"}, "--nodes 2: --cluster debug is this machine alone. Type --nodes 1."),
        ("debug", {"tasks_per_node": 2}, "--cluster debug is this process itself. Type --cluster local for several"),
    ],
)
def test_what_a_scheduler_cannot_follow_is_refused(name: str, flags: dict[str, object], told: str) -> None:
    with pytest.raises(UserError) as caught:
        load_cluster(name, flags)
    assert told in str(caught.value)


def test_an_unknown_scheduler_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("partition: gpu\nkind: pbs\n")
    with pytest.raises(UserError, match=r"site\.yaml:2: kind=pbs: type one of slurm, local, debug\."):
        load_cluster(str(tmp_path / "site.yaml"), {})
