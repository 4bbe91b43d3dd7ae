"""A run that was submitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.jobs import note_job
from signs_dist.run_folder.folder import RunFolder
from tests.lines import start_line


@pytest.fixture
def a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was submitted, on a machine where no SLURM answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    run = tmp_path / "runs" / "a"
    folder = RunFolder(run).create()
    note_job(run, "7", "001")
    for rank in (0, 1):
        (folder.logs / f"job7.0.rank{rank}.txt").write_text(f"said by {rank}\n")
    folder.add(start_line(time="now"))
    return run
