"""Starting a recorded run; whole comparisons are in tests/test_parity.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.errors import TrainingFailedError, UserError
from signs_dist.rehearsal import recorded_runs
from signs_dist.rehearsal.recorded_runs import record_run


def test_what_the_processes_refuse_is_raised_here(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^optim\.lr=fast: fast is not legal"):
        record_run(1, ["--steps", "1", "optim.lr=fast"], tmp_path / "run")


def test_a_run_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_runs, "LONGEST_SECONDS", 0.05)
    with pytest.raises(TrainingFailedError, match=r"the run on 1 process did not end within 0.05 s\. It printed:"):
        record_run(1, ["--steps", "1"], tmp_path / "run")
