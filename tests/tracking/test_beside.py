"""Feeders beside a process that trains: what is told at the end, whatever the dashboard does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from signs_dist.run_folder.folder import RunFolder
from signs_dist.tracking import beside
from signs_dist.tracking.beside import fed_dashboards
from signs_dist.tracking.feeding import note_error
from signs_dist.tracking.marks import Mark, write_mark
from tests.tracking.runs import RESULT, START, make_run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run", START)


def told(
    monkeypatch: pytest.MonkeyPatch,
    run: RunFolder,
    program: str,
    *,
    end_seconds: float = 60.0,
    stop_seconds: float = 60.0,
) -> list[str]:
    """What the end of a block tells whose feeder is the Python program."""
    monkeypatch.setattr(beside, "feeder_command", lambda run_path, name: [sys.executable, "-S", "-c", program])
    lines: list[str] = []
    with fed_dashboards(run, ("wandb",), lines.append, end_seconds=end_seconds, stop_seconds=stop_seconds):
        assert lines == []
    return lines


def test_the_end_waits_until_the_feeder_has_the_rest(monkeypatch: pytest.MonkeyPatch, run: RunFolder) -> None:
    write_mark(run.path, "wandb", Mark(url="https://example.org/1"))
    program = f"import sys; sys.stdin.read(); open({str(run.path / 'fed')!r}, 'w')"
    assert told(monkeypatch, run, program) == ["wandb has the run: https://example.org/1"]
    assert (run.path / "fed").exists()


def test_a_feeder_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch, run: RunFolder) -> None:
    run.write_result(RESULT)
    (line,) = told(monkeypatch, run, "import time; time.sleep(600)", end_seconds=0.5)
    assert line == (
        f"wandb does not have all of the run: it took too long, as without a network. "
        f"Log: {run.logs}/track-wandb.log. To send the rest: python -m signs_dist.track {run.path} --to wandb"
    )


def test_a_run_that_was_stopped_waits_for_less(monkeypatch: pytest.MonkeyPatch, run: RunFolder) -> None:
    (line,) = told(monkeypatch, run, "import time; time.sleep(600)", stop_seconds=0.2)
    assert "it took too long" in line


def test_a_feeder_that_fails_is_told_by_the_last_line_of_its_log(
    monkeypatch: pytest.MonkeyPatch, run: RunFolder
) -> None:
    (line,) = told(monkeypatch, run, "raise SystemExit('no network.')")
    assert "wandb does not have all of the run: no network. Log:" in line


def test_a_feeder_that_fails_is_told_by_what_it_noted(monkeypatch: pytest.MonkeyPatch, run: RunFolder) -> None:
    note_error(run.path, "wandb", "ConnectionError: refused")
    (line,) = told(monkeypatch, run, "import os; os._exit(7)")
    assert "ConnectionError: refused. Log:" in line
    note_error(run.path, "wandb", f"ConnectionError: {'x' * 1000}")
    (line,) = told(monkeypatch, run, "import os; os._exit(7)")
    assert f"ConnectionError: {'x' * 142}…. Log:" in line


def test_a_feeder_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch, run: RunFolder) -> None:
    monkeypatch.setattr(beside, "feeder_command", lambda run_path, name: [str(run_path / "nothing")])
    lines: list[str] = []
    with fed_dashboards(run, ("mlflow",), lines.append):
        pass
    assert "mlflow does not have all of the run: it did not start" in lines[0]


def test_only_the_process_that_writes_starts_feeders(monkeypatch: pytest.MonkeyPatch, run: RunFolder) -> None:
    monkeypatch.setattr(beside, "feeder_command", lambda run_path, name: pytest.fail("started"))
    with fed_dashboards(RunFolder(run.path, is_writer=False), ("wandb",), lambda line: pytest.fail(line)):
        pass
    with fed_dashboards(run, (), lambda line: pytest.fail(line)):
        pass
