"""What to type when SLURM refuses a job."""

from __future__ import annotations

import pytest

from launch.cluster import ClusterConfig
from launch.schedulers.slurm_refusals import refusal

CLUSTER = ClusterConfig(
    nodes="4",
    gpus_per_node=2,
    memory="64G",
    partition="gpu",
    account="a",
    qos="q",
    constraint="fast",
    extra={"reservation": "course", "licenses": "x", "hold": True},
)


@pytest.mark.parametrize(
    ("told", "hint"),
    [
        (
            "error: Invalid account or account/partition combination specified",
            "--account a: sacctmgr show associations",
        ),
        ("error: Invalid qos specification", "--qos q: sacctmgr show associations"),
        (
            "error: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
            "or the number of your jobs is more than your account or QOS allows: sacctmgr show qos",
        ),
        ("error: AssocMaxJobsLimit", "--nodes 4, --time 1:00:00 or the number of your jobs is more than"),
        ("allocation failure: Invalid feature specification", "--constraint fast: sinfo --format='%N %f' lists"),
        ("allocation failure: Requested reservation is invalid", "--extra reservation=course: scontrol show reserv"),
        ("error: User's group not permitted to use this partition", "scontrol show partition gpu lists who may use it"),
        (
            "error: Requested time limit is invalid (missing or exceeds some limit)",
            "--time 1:00:00: sinfo",
        ),
        (
            "allocation failure: Requested node configuration is not available",
            "--nodes 4 --gpus-per-node 2 --memory 64G: sinfo",
        ),
        ("error: Invalid generic resource (gres) specification", "--nodes 4 --gpus-per-node 2 --memory 64G: sinfo"),
        ("error: Memory specification can not be satisfied", "--memory 64G: sinfo"),
        ("error: invalid partition specified: gpu", "--partition gpu: sinfo --summarize lists"),
        ("allocation failure: Invalid license specification", "--extra gave reservation=course, licenses=x, hold."),
        ("error: Invalid --begin specification", "--extra gave reservation=course, licenses=x, hold."),
    ],
)
def test_each_refusal_says_what_to_type(told: str, hint: str) -> None:
    said = str(refusal(told, CLUSTER))
    assert said.startswith(f"SLURM does not take this job: {told}. ")
    assert hint in said


def test_a_refusal_without_a_known_reason_is_passed_on() -> None:
    assert str(refusal("error: computer says no", CLUSTER)) == "SLURM does not take this job: error: computer says no"
    assert str(refusal("", CLUSTER)) == "SLURM does not take this job: it gave no reason."
    assert "no --account was given: sacctmgr" in str(refusal("error: Invalid account", ClusterConfig()))
