"""How far a run is."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.status import describe_submitted_run
from signs_dist.run_folder.folder import RunFolder


def test_one_process_is_one(a_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunFolder(a_run).write_result({"finished": True})
    assert "1 process, from step 0" in describe_submitted_run(a_run, ["7"])
