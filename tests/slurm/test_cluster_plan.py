"""The files of the rehearsal cluster."""

from __future__ import annotations

from pathlib import Path

from slurm.cluster_plan import ClusterPlan, gres_conf, slurm_conf


def test_the_files_of_slurm() -> None:
    plan = ClusterPlan(
        Path("/tmp/x"), num_nodes=2, num_gpus=2, grace_seconds=3, user="someone", ports=(1, 2, 3), first_job_id=7
    )
    conf = slurm_conf(plan)
    assert "SlurmUser=someone\n" in conf
    assert "SlurmctldParameters=preempt_send_user_signal\n" in conf
    assert "AuthInfo=socket=/tmp/x/munge/socket,cred_expire=5\n" in conf
    assert (
        "NodeName=127.0.1.2 NodeHostname=localhost NodeAddr=127.0.0.1 Port=3 CPUs=4 RealMemory=4000 Gres=gpu:fake:2 "
        in conf
    )
    assert (
        "PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=3\n" in conf
    )
    assert "NodeName=127.0.1.1 Name=gpu Type=fake File=/tmp/x/dev/node1-gpu[0-1]\n" in gres_conf(plan)
    without = ClusterPlan(Path("/tmp/x"), num_nodes=1, num_gpus=0, sends_user_signal=False, ports=(1, 2))
    assert "preempt_send_user_signal" not in slurm_conf(without)
    assert "Gres=" not in slurm_conf(without)
    assert gres_conf(without) == "AutoDetect=off\n"
