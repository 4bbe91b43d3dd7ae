"""Workers of torch's agent: forked where that is safe, else as torch starts them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.elastic.multiprocessing import api

from launch import forked_workers
from launch.forked_workers import fork_parent, forking_workers
from launch.worker_parent import ParentLostError


class Parent:
    """A parent that fails in a given way, or starts nothing but notes what it is asked for."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.asked: list[tuple[Any, ...]] = []
        self.is_closed = False

    def fork_worker(self, arguments: tuple[str, ...], environment: dict[str, str], standard_error: str) -> Any:
        self.asked.append((arguments, environment["RANK"], standard_error))
        if self._error is not None:
            raise self._error
        return "forked"

    def close(self) -> None:
        self.is_closed = True


def start(folder: Path, *arguments: str, program: str = sys.executable) -> Any:
    """Start a worker by the function that torch's agent calls."""
    error = str(folder / "stderr.log")
    handler = api.get_subprocess_handler(  # type: ignore[attr-defined]
        entrypoint=program,
        args=arguments,
        env={"RANK": "1"},
        stdout="",
        stderr=error,
        local_rank_id=1,
        numa_options=None,
    )
    if handler._stderr is not None:
        handler._stderr.close()
    return handler.proc


def test_a_worker_is_forked_with_what_torch_gives_it(tmp_path: Path) -> None:
    parent: Any = Parent()
    before = api.get_subprocess_handler  # type: ignore[attr-defined]
    with forking_workers(parent):
        assert start(tmp_path, "-u", "-c", "pass", "a") == "forked"
    assert parent.asked == [(("-c", "pass", "a"), "1", str(tmp_path / "stderr.log"))]
    assert (tmp_path / "stderr.log").read_text() == ""
    assert parent.is_closed
    assert api.get_subprocess_handler is before  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ParentLostError(), "the process that forks workers has ended"),
        (OSError(11, "Resource temporarily unavailable"), "it cannot be forked: Resource temporarily unavailable"),
    ],
)
def test_a_worker_that_cannot_be_forked_is_a_new_interpreter_and_the_log_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], error: Exception, reason: str
) -> None:
    parent: Any = Parent(error)
    with forking_workers(parent):
        process = start(tmp_path, "-u", "-c", "import os, sys; sys.exit(os.environ['RANK'])")
        assert process.wait(60) == 1
    assert (tmp_path / "stderr.log").read_text() == "1\n"
    assert capfd.readouterr().err == f"note: a worker is a new interpreter: {reason}\n"


def test_another_program_is_started_by_torch(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    parent: Any = Parent()
    with forking_workers(parent):
        assert start(tmp_path, "-u", program="/bin/true").wait(60) == 0
    assert parent.asked == []
    assert capfd.readouterr().err == "note: a worker is a new interpreter: torch starts /bin/true\n"


def test_a_release_of_torch_without_these_names_starts_workers_itself(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(api, "get_subprocess_handler")
    parent: Any = Parent()
    with forking_workers(parent):
        assert parent.is_closed
    told = capfd.readouterr().err
    assert told.startswith("note: a worker is a new interpreter: this release of torch starts workers in another way: ")


@pytest.mark.parametrize("reason", ["after the imports there are 3 threads", "the imports have opened a GPU"])
def test_a_process_that_must_not_be_forked_forks_no_parent(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], reason: str
) -> None:
    monkeypatch.delenv("SIGNS_DIST_FORK", raising=False)
    order: list[tuple[str, int | None]] = []
    monkeypatch.setattr(
        forked_workers, "set_waiting", lambda environment, num_started: order.append(("waiting", num_started))
    )
    monkeypatch.setattr(forked_workers, "preload", lambda arguments: order.append(("imports", None)))
    monkeypatch.setattr(forked_workers, "reason_now", lambda: reason)
    assert fork_parent(("-c", "pass"), 2) is None
    assert order == [("waiting", 2), ("imports", None)]  # OpenMP reads it when torch is imported
    assert capfd.readouterr().err == f"note: a worker is a new interpreter: {reason}\n"
    before = api.get_subprocess_handler  # type: ignore[attr-defined]
    with forking_workers(None):
        assert api.get_subprocess_handler is before  # type: ignore[attr-defined]


def test_with_the_switch_off_nothing_is_imported(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIGNS_DIST_FORK", "0")
    monkeypatch.setattr(forked_workers, "preload", lambda arguments: pytest.fail("it was imported"))
    assert fork_parent(("-c", "pass"), 2) is None
    assert capfd.readouterr().err == "note: a worker is a new interpreter: SIGNS_DIST_FORK=0\n"
