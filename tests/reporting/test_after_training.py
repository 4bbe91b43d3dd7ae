"""The report that a training writes at its end, which can neither end nor fail the training."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from signs_dist.reporting import after_training
from signs_dist.reporting.after_training import SWITCH, ReportProcess, is_wanted, seconds_for, why
from signs_dist.training.fit import fit
from tests.processes import finish, run, started, train_command, wait_for
from tests.reporting.pages import without_what_varies
from tests.reporting.run_folders import write_run
from tests.sets import small_run, write_colour_set
from tests.training.parts import make_config


def report_after_training(path: Path, limit: float) -> str:
    return ReportProcess(path).write(limit)


@pytest.mark.parametrize(
    ("setting", "variable", "wanted"),
    [(True, None, True), (True, "1", True), (True, "0", False), (False, None, False), (False, "1", False)],
)
def test_whether_a_training_writes_one(setting: bool, variable: str | None, wanted: bool) -> None:
    assert is_wanted(setting, {} if variable is None else {SWITCH: variable}) == wanted


def test_a_report_takes_less_time_than_others_wait() -> None:
    assert seconds_for(is_finished=True, timeout_seconds=1000) == 60
    assert seconds_for(is_finished=False, timeout_seconds=1000) == 15
    assert seconds_for(is_finished=True, timeout_seconds=5) == 2.5


@pytest.mark.parametrize(
    ("code", "errors", "told"),
    [
        (2, "a warning\nerror: cannot write report.html\n\n", "cannot write report.html"),
        (1, "Traceback …\nKeyError: 'x'\x1b[2J\n", "KeyError: 'x'\\x1b[2J"),
        (-6, "# Fatal error in V8\n", "its process was ended by SIGABRT"),
        (3, "", "its process ended with exit code 3"),
    ],
)
def test_why_there_is_none(code: int, errors: str, told: str) -> None:
    assert why(code, errors) == told


def test_the_report_is_written_by_another_process(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a b", epochs=2)
    assert report_after_training(folder, 100) == f"report: {folder}/report.html"
    assert "<h1>a b</h1>" in (folder / "report.html").read_text()


def test_a_process_that_is_started_early_writes_what_the_folder_holds_later(tmp_path: Path) -> None:
    early = ReportProcess(tmp_path / "a")
    early.start()
    folder = write_run(tmp_path / "a", epochs=2)
    assert early.write(100) == f"report: {folder}/report.html"


def test_a_process_that_is_not_needed_ends_without_a_report(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", epochs=2)
    early = ReportProcess(folder)
    early.close()
    early.start()
    early.close()
    assert early._process is not None
    assert early._process.returncode == -signal.SIGKILL
    assert not (folder / "report.html").exists()


def test_without_its_training_the_process_ends(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", epochs=2)
    early = ReportProcess(folder)
    early.start()
    assert early._process is not None
    assert early._process.stdin is not None
    early._process.stdin.close()  # as the system does when the training is killed
    assert early._process.wait(60) == 0
    early.close()
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import os; os.abort()", "its process was ended by SIGABRT"),
        ("import sys; sys.exit('error: no space left')", "no space left"),
        ("import time; time.sleep(60)", "it took longer than 1 s"),
    ],
)
def test_a_report_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, told: str
) -> None:
    monkeypatch.setattr(after_training, "_PROGRAM", program)
    line = report_after_training(tmp_path, 1)
    assert line == f"no report was written: {told}. To try again: python -m signs_dist.report {tmp_path}"


def test_without_a_python_to_start_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    assert report_after_training(tmp_path, 5).startswith("no report was written: [Errno 2] No such file")


def test_signals_that_stop_a_training_do_not_reach_the_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = "import os, signal; [os.kill(os.getpid(), getattr(signal, name)) for name in ('SIGTERM', 'SIGUSR2')]"
    monkeypatch.setattr(after_training, "_PROGRAM", program)
    assert report_after_training(tmp_path, 50).startswith("report: ")
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize("pause", [0, 0.5])
def test_a_second_control_c_ends_the_report_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pause: float) -> None:
    program = f"import os, signal, time; time.sleep({pause}); os.kill({os.getpid()}, signal.SIGINT); time.sleep(50)"
    monkeypatch.setattr(after_training, "_PROGRAM", program)
    with pytest.raises(KeyboardInterrupt):
        report_after_training(tmp_path, 50)


def test_a_training_writes_its_report_unless_it_shall_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(ReportProcess, "start", lambda self: None)
    monkeypatch.setattr(ReportProcess, "write", lambda self, limit: asked.append(self._path) or "")
    fit(make_config(tmp_path, "train.epochs=1"), tmp_path / "off", quiet=True)
    monkeypatch.delenv(SWITCH)
    fit(make_config(tmp_path, "train.epochs=1", "log.report=false"), tmp_path / "not", quiet=True)
    assert asked == []
    fit(make_config(tmp_path, "train.epochs=1"), tmp_path / "on", quiet=True)
    assert asked == [tmp_path / "on"]


def test_a_training_that_fails_writes_its_report_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(ReportProcess, "write", lambda self, limit: asked.append(limit) or "")
    monkeypatch.delenv(SWITCH)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("signs_dist.training.trainer.Trainer.train", fail)
    with pytest.raises(RuntimeError, match="boom"):
        fit(make_config(tmp_path, "train.epochs=1"), tmp_path / "a", quiet=True)
    assert asked == [15]


@pytest.mark.slow
def test_a_run_that_was_stopped_and_resumed_has_the_report_of_one_that_was_not(tmp_path: Path) -> None:
    colours = write_colour_set(tmp_path / "colours", counts={"train": 33, "val": 5})
    settings = small_run(colours, "exact=true", "log.every_steps=1", epochs=3, global_batch=8)
    command, on = train_command("--run-dir", "run", *settings), {SWITCH: "1"}
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole = run(command, tmp_path / "whole", on)
    assert whole.code == 0, whole.err
    assert whole.out.rstrip().endswith("report: run/report.html")

    with started([*command, "data.num_workers=1"], tmp_path / "broken", on) as process:
        wait_for(tmp_path / "broken" / "run" / "metrics.jsonl", '"step": 6,')
        process.send_signal(signal.SIGTERM)
        assert finish(process).code == 75
    page = tmp_path / "broken" / "run" / "report.html"
    stopped = page.read_text()
    assert '<span class="badge stopped">stopped</span>' in stopped
    assert "stopped by SIGTERM after epoch " in stopped
    assert run(command, tmp_path / "broken", on).code == 0

    pages = [(tmp_path / name / "run" / "report.html").read_text() for name in ("whole", "broken")]
    result = json.loads((tmp_path / "broken" / "run" / "result.json").read_text())
    assert all(result["weights_sha256"] in text for text in pages)
    assert without_what_varies(pages[0]) == without_what_varies(pages[1])
