"""Starting a recorded run; whole comparisons are in tests/test_parity.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.rehearsal.recorded_runs import record_run


def test_what_the_processes_refuse_is_raised_here(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^optim\.lr=fast: fast is not legal"):
        record_run(1, ["--steps", "1", "optim.lr=fast"], tmp_path / "run")
