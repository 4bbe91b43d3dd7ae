"""A process that is killed at a stage of a save."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from signs_dist.console.command import run_command
from signs_dist.rehearsal.kill_in_save import main
from tests.processes import run

SAVER = """
import sys
from pathlib import Path
import torch
from signs_dist.checkpointing.store import CheckpointStore, Cursor

if __name__ == "__main__":
    for epoch in (1, 2, 3):
        CheckpointStore(Path(sys.argv[1]), keep=9).write(Cursor(epoch, 0), {"model": {"w": torch.zeros(9)}}, None)
    sys.exit(5)
"""


@pytest.mark.parametrize(
    ("number", "code", "num_files"),
    [(2, -signal.SIGKILL, 2), (4, 5, 3)],  # there is no fourth save: the module ends by itself
)
def test_killed_at_a_stage_of_a_save(tmp_path: Path, number: int, code: int, num_files: int) -> None:
    (tmp_path / "saver.py").write_text(SAVER)
    program = [sys.executable, "-m", "signs_dist.rehearsal.kill_in_save"]
    path = {"PYTHONPATH": f"{Path(__file__).parents[2]}:{tmp_path}"}
    ended = run([*program, "after rename", str(number), "killed_file", "saver", "saves"], tmp_path, path)
    assert ended.code == code, ended.err
    assert len(list((tmp_path / "saves").glob("epoch*.pt"))) == num_files
    assert (tmp_path / "killed_file").exists() is (code == -signal.SIGKILL)


def test_an_unknown_stage_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(main, ["before renam", "1", "killed_file", "signs_dist.train"])
    assert caught.value.code == 2
    assert "error: argument STAGE: invalid choice: 'before renam' (choose from 'open', " in capsys.readouterr().err
