"""The commands after a submission."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.jobs import note_job
from launch.submit import main
from signs_dist.console.command import run_command
from signs_dist.run_folder.folder import RunFolder


def test_status_shows_what_is_known_where_slurm_does_not_answer(
    a_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = a_run.parent / "b"
    RunFolder(done).create().write_result({"finished": True})
    note_job(done, "8", "001")
    assert run_command(main, ["status"]) == 0
    said = capsys.readouterr().out
    assert "runs/a" in said
    assert "not known: SLURM does not answer" in said
    assert "finished" in said
