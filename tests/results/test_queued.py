from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from signs_dist.environment.installation import full_name
from signs_dist.results.queued import QUEUE, QueueAnswer, QueuedJob, ask_queue, may_have_job, with_queue
from signs_dist.results.summary import RunSummary, summarise_run
from tests.results.runs import make_finished, make_run, start


def submit(run: Path, job: str = "7") -> Path:
    (run / "submit").mkdir(parents=True)
    (run / "submit" / "jobs.jsonl").write_text(f'{{"job": "{job}"}}\n')
    return run


def test_nobody_is_asked_about_runs_without_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", pytest.fail)
    summaries = [summarise_run(make_run(tmp_path / "a", start())), summarise_run(make_finished(tmp_path / "b"))]
    assert ask_queue(summaries) == QueueAnswer()
    submit(tmp_path / "b")
    os.utime(tmp_path / "b" / "submit" / "jobs.jsonl", (1, 1))  # the job that has finished it
    assert not may_have_job(summaries[1])
    assert ask_queue(summaries) == QueueAnswer()


def test_the_schedulers_are_asked_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[Path]] = []

    def ask(paths: list[Path]) -> QueueAnswer:
        asked.append(paths)
        return QueueAnswer()

    monkeypatch.setattr(f"{full_name(QUEUE)}.ask_queue", ask)
    paths = [submit(make_run(tmp_path / name, start())) for name in "ab"]
    ask_queue([summarise_run(path) for path in [*paths, make_run(tmp_path / "c", start())]])
    assert asked == [paths]


def test_the_module_that_asks_exists() -> None:
    assert callable(importlib.import_module(full_name(QUEUE)).ask_queue)


@pytest.mark.parametrize(
    ("state", "job", "after"),
    [
        ("stopped", QueuedJob("7", True, "Priority"), ("waiting", "Priority", "", "7")),
        ("not begun", QueuedJob("7", True), ("waiting", "", "", "7")),
        ("finished", QueuedJob("8", True), ("waiting", "", "", "8")),
        ("not begun", QueuedJob("7", False, where="n3"), ("running", "", "n3", "7")),
        ("failed", QueuedJob("7", False), ("running", "", "n1", "7")),
        ("running", QueuedJob("8", True), ("running", "before", "n1", "")),
        ("failed", None, ("failed", "before", "n1", "")),
    ],
)
def test_the_state_with_what_the_scheduler_says(
    state: str, job: QueuedJob | None, after: tuple[str, str, str, str]
) -> None:
    path = Path("a")
    summary = RunSummary(path=path, state=state, why="before", where="n1")  # type: ignore[arg-type]
    joined = with_queue(summary, QueueAnswer({path: job} if job else {}))
    assert (joined.state, joined.why, joined.where, joined.job) == after


def test_a_finished_run_may_have_a_newer_job(tmp_path: Path) -> None:
    run = submit(make_finished(tmp_path / "a"))
    os.utime(run / "result.json", (1, 1))
    assert may_have_job(summarise_run(run))
    assert not may_have_job(SimpleNamespace(path=tmp_path / "b", state="finished"))  # type: ignore[arg-type]
    left = submit(tmp_path / "a.removing")
    assert not may_have_job(RunSummary(path=left, state="partly removed"))
