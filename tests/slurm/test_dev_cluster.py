"""A real SLURM in a folder: it comes up, runs jobs, and leaves nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from signs_dist.console.command import run_command
from signs_dist.errors import UserError
from slurm.cluster_plan import ClusterPlan
from slurm.dev_cluster import DevCluster, main, read_plan
from tests.slurm_cluster import requires_slurm, short_folder

pytestmark = pytest.mark.slow

NUMBERS = {"nodes": 2, "gpus": 1, "cpus": 2, "memory_mb": 500, "grace_seconds": 0, "kill_seconds": 2}


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that name the folder in their arguments or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            text = (entry / "environ").read_bytes() + command
        except OSError:
            continue
        if command and str(folder).encode() in text and int(entry.name) != os.getpid():
            found.append(command.decode(errors="replace"))
    return found


def type_in(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "slurm.dev_cluster", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@requires_slurm
def test_a_cluster_runs_jobs_and_leaves_nothing() -> None:
    with short_folder() as folder:
        told = type_in("up", str(folder), "--nodes", "2", "--gpus", "2", "--cpus", "2")
        try:
            assert told.returncode == 0, told.stderr
            assert re.match(r"2 nodes with 2 fake GPUs each, up in \d+\.\d s\.\n", told.stdout)
            sourced = re.search(r"To use it:  (.*)", told.stdout)
            assert sourced is not None
            # As a person would: source the file, ask for all GPUs.
            script = f"{sourced[1]} && srun -N2 --ntasks-per-node=1 --gpus-per-node=2 printenv CUDA_VISIBLE_DEVICES"
            assert subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout == "0,1\n0,1\n"
            # A job that ignores SIGTERM and has left its process group does not outlive the cluster either.
            cluster = DevCluster(folder)
            cluster.run("sbatch", "--output", "/dev/null", "--wrap", "trap '' TERM; setsid sleep 1000 & sleep 1000")
            deadline = time.monotonic() + 20
            while "sleep\x001000" not in "".join(processes_of(folder)) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert " R " in type_in("status", str(folder)).stdout
        finally:
            assert type_in("down", str(folder)).returncode == 0
        assert not folder.exists()
        assert processes_of(folder) == []
        told = type_in("status", str(folder))
        assert (told.returncode, "python -m slurm.dev_cluster up" in told.stderr) == (2, True)
        assert type_in("down", str(folder)).returncode == 0  # twice does no harm


@requires_slurm
def test_two_clusters_at_once_are_separate() -> None:
    with short_folder() as one, short_folder() as two:
        clusters = [DevCluster(one), DevCluster(two)]
        try:
            for cluster in clusters:
                cluster.up(ClusterPlan(Path(), num_nodes=1, num_gpus=0))
            ids = [cluster.run("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "true") for cluster in clusters]
            assert ids[0] != ids[1]
            clusters[0].down()
            assert clusters[1].run("srun", "printenv", "SLURM_JOB_NUM_NODES") == "1"
        finally:
            for cluster in clusters:
                cluster.down()
        assert processes_of(one) == processes_of(two) == []


@requires_slurm
def test_an_unusable_folder_is_refused_and_unchanged() -> None:
    with short_folder() as folder:
        folder.mkdir()
        (folder / "file").write_text("mine")
        with pytest.raises(
            UserError, match=r"is not empty\. To remove an old cluster: python -m slurm\.dev_cluster down"
        ):
            DevCluster(folder).up(ClusterPlan(Path()))
        with pytest.raises(UserError, match=r"is not a cluster's folder\. Nothing was killed or removed"):
            DevCluster(folder).down()
        assert (folder / "file").read_text() == "mine"
        for name, told in (("with space", "allow no spaces"), ("x" * 100, "is too long for a socket")):
            with pytest.raises(UserError, match=told):
                DevCluster(folder.parent / name).up(ClusterPlan(Path()))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"nodes": 0}, "--nodes 0: give a number from 1 to 200"),
        ({"gpus": -1}, "--gpus -1: give a number from 0 to 64"),
        ({"kill_seconds": 0}, "--kill-seconds 0: give a number from 1"),
        ({"memory_mb": 0}, "--memory-mb 0"),
    ],
)
def test_numbers_out_of_range_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_plan({**NUMBERS, "no_user_signal": False, **changes})


def test_the_help_is_quick_and_names_the_packages() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "slurm.dev_cluster", "up", "--help"], capture_output=True, text=True, check=True
    )
    assert "--grace-seconds" in ended.stdout


def test_ending_a_cluster_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, ["down", str(tmp_path / "none")]) == 0
    assert "does not exist: nothing to end." in capsys.readouterr().out
