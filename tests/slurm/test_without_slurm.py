"""The templates and the throw-away cluster, as far as they need no SLURM."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from signs_dist.console.command import run_command
from slurm.dev_cluster import main as dev_cluster
from tests.processes import REPOSITORY, environment


@pytest.mark.parametrize(
    ("number", "name"), [("", "trials.txt"), ("0", "trials.txt"), ("3", "trials.txt"), ("1", "none.txt")]
)
def test_an_element_without_a_line_of_its_own_trains_nothing(tmp_path: Path, number: str, name: str) -> None:
    (tmp_path / "trials.txt").write_text("seed=0\nseed=1\n")
    told = subprocess.run(
        ["bash", str(REPOSITORY / "slurm" / "array.sbatch"), name],
        cwd=tmp_path,
        env=environment(SLURM_ARRAY_TASK_ID=number),
        capture_output=True,
        text=True,
    )
    assert told.returncode == 2
    assert f"error: {name} has no line {number or 0}: sbatch --array=1-N for a file of N lines" in told.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["trials.txt"]


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(dev_cluster, ["down", str(tmp_path / "none")]) == 0
    assert "does not exist: nothing to end." in capsys.readouterr().out
