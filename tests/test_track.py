"""The command track, as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.console.command import run_command
from signs_dist.track import main
from signs_dist.tracking import feeding
from signs_dist.tracking.marks import read_mark
from tests.processes import run
from tests.tracking.dashboards import python
from tests.tracking.programs import TENSORBOARD, ask
from tests.tracking.runs import START, epoch_line, make_run, step_line


def test_a_finished_run_is_sent_and_a_second_time_nothing_is(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", START, step_line(5), epoch_line(10), is_finished=True)
    command = [python(), "-m", "signs_dist.track", str(folder.path), "--to", "tensorboard"]
    for _ in range(2):
        ended = run(command, tmp_path)
        assert (ended.code, ended.out) == (0, f"tensorboard has {folder.path} up to step 10\n"), ended.err
    found = ask(TENSORBOARD, folder.path / "tensorboard")
    assert found["points"] == [[5, 1.0], [10, 1.0]]
    assert {"val/loss", "final/val_accuracy"} <= set(found["scalars"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "tensorbord"], "error: --to tensorbord: give one or more of tensorboard, wandb, mlflow, trackio"),
        (["--to", ","], "error: --to ,: give one or more of tensorboard"),
        (["--to", "tensorboard,wandb", "--follow"], "error: --follow takes one dashboard, not tensorboard,wandb."),
    ],
)
def test_wrong_input_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    make_run(tmp_path / "run", START)
    assert run_command(main, [str(tmp_path / "run"), *arguments]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, [str(tmp_path / "nothing"), "--to", "tensorboard"]) == 2
    assert "nothing does not exist" in capsys.readouterr().err


def test_a_dashboard_that_fails_is_told_and_noted_and_the_next_one_is_fed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(tmp_path / "run", START, step_line(5))
    opened = []

    def open_tracker(name: str, *rest: object) -> None:
        opened.append(name)
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(feeding, "open_tracker", open_tracker)
    monkeypatch.setattr("signs_dist.tracking.installed.require_installed", lambda names, given: None)
    assert run_command(main, [str(folder.path), "--to", "wandb,mlflow"]) == 1
    assert opened == ["wandb", "mlflow"]
    error = capsys.readouterr().err
    assert error.splitlines()[0].startswith("wandb: ConnectionError: no network")
    assert "no network" in read_mark(folder.path, "mlflow").error
