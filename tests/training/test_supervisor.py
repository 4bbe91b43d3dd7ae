"""Which errors are raised, which end in a card, and which process speaks."""

from __future__ import annotations

import dataclasses
import io
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from signs_dist.config.settings import ProcessesConfig
from signs_dist.console.screen import Screen
from signs_dist.environment.context import read_context
from signs_dist.errors import (
    FaultyHardwareError,
    LoadingError,
    PeerLostError,
    SaveError,
    StoppedError,
    TrainingFailedError,
    UserError,
)
from signs_dist.monitoring.beats import Identity, read_beats
from signs_dist.monitoring.failure_card import FailureCard, read_failures, write_failure
from signs_dist.training import supervisor as module
from signs_dist.training.supervisor import Supervisor

RAISED = [
    (UserError("no such folder"), 2, "error: no such folder"),
    (TrainingFailedError("the loss is not a finite number"), 1, "error: the loss is not a finite number"),
    (SaveError("no space left"), 74, "error: no space left"),
    (StoppedError("stopped by SIGTERM", 75), 75, "stopped"),
    (StoppedError("stopped by Ctrl-C", 130), 130, "interrupted"),
    (PeerLostError("rank 1 did not arrive"), 3, "error: rank 1 did not arrive"),
    (KeyboardInterrupt(), 130, "interrupted"),
]


class Ended(BaseException):
    """Takes the place of the end of this process."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@pytest.fixture(autouse=True)
def _short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    def end_now(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(module, "end_now", end_now)
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.01)


def make(*, rank: int = 0, world_size: int = 1, error_file: Path | None = None) -> Supervisor:
    context = dataclasses.replace(read_context(), rank=rank, world_size=world_size, host="n1", error_file=error_file)
    return Supervisor(context, ProcessesConfig(), "cpu", Screen(is_terminal=False, file=io.StringIO()))


def failing(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def in_run(supervisor: Supervisor, logs: Path, error: BaseException) -> Callable[[], None]:
    """The error comes while the run is watched."""

    def action() -> None:
        with supervisor.watching(logs, logs / "rank0.log", 1):
            raise error

    return action


@pytest.mark.parametrize(("error", "code", "line"), RAISED)
def test_one_process_raises_what_a_user_can_mend(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor, reasons = make(), list[str]()
    supervisor.when_known = reasons.append
    with pytest.raises(type(error)):
        supervisor.run(failing(error))
    assert reasons == [f"{type(error).__name__}: {error}"]
    assert capsys.readouterr().err == ""  # the command prints it


def test_one_process_shows_a_card_for_anything_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    supervisor, reasons = make(), list[str]()
    supervisor.when_known = reasons.append
    with pytest.raises(SystemExit) as ended:
        supervisor.run(in_run(supervisor, tmp_path, ZeroDivisionError("a bug")))
    assert ended.value.code == 1
    text = capsys.readouterr().err
    assert text.startswith("──── signs_dist failed ─")
    assert " error  ZeroDivisionError: a bug" in text
    assert f"   log  {tmp_path / 'rank0.log'}" in text
    assert len(reasons) == 1
    assert "ZeroDivisionError: a bug" in reasons[0]


def test_the_card_of_one_process_stays_in_the_run_folder(tmp_path: Path) -> None:
    """For the list of runs and the report."""
    supervisor = make()
    with pytest.raises(SystemExit):
        supervisor.run(in_run(supervisor, tmp_path, RuntimeError("boom")))
    assert [(card.kind, card.error) for card in read_failures(tmp_path)] == [("error", "RuntimeError: boom")]


@pytest.mark.parametrize("is_stuck", [False, True])
def test_images_that_never_come_end_the_process_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_stuck: bool
) -> None:
    # At a normal end Python waits for workers that hang; and a main thread that is stuck raises nothing itself.
    supervisor, error = make(), LoadingError("no batch came")
    run = in_run(supervisor, tmp_path, error)
    with pytest.raises(Ended) as caught:
        supervisor.end_stuck(error) if is_stuck else supervisor.run(run)
    assert caught.value.code == 1
    assert "error  LoadingError: no batch came" in capsys.readouterr().err


def test_an_action_that_ends_well_is_only_done() -> None:
    done: list[int] = []
    make().run(lambda: done.append(1))
    make(world_size=2).run(lambda: done.append(2))
    assert done == [1, 2]


@pytest.mark.parametrize(("rank", "speaks"), [(0, True), (1, False)])
@pytest.mark.parametrize(
    ("error", "code", "line"), [row for row in RAISED if not isinstance(row[0], (SaveError, PeerLostError))]
)
def test_of_several_processes_the_first_tells_what_all_raise(
    error: BaseException, code: int, line: str, rank: int, speaks: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor, reasons = make(rank=rank, world_size=2), list[str]()
    supervisor.when_known = reasons.append
    with pytest.raises(Ended) as ended:
        supervisor.run(failing(error))
    assert ended.value.code == code
    assert capsys.readouterr().err == (f"{line}\n" if speaks else "")
    assert reasons == [f"{type(error).__name__}: {error}"]


def test_a_save_that_failed_ends_in_a_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    supervisor = make(world_size=2)
    with pytest.raises(Ended) as ended:
        supervisor.run(in_run(supervisor, tmp_path, SaveError("no space left")))
    assert ended.value.code == 74
    assert "error  SaveError: no space left" in capsys.readouterr().err


@pytest.mark.parametrize("rank", [0, 1])
def test_the_process_whose_work_failed_shows_its_card(
    tmp_path: Path, rank: int, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor = make(rank=rank, world_size=2, error_file=tmp_path / "error.json")
    logs = tmp_path / "logs"
    logs.mkdir()
    with pytest.raises(Ended) as ended:
        supervisor.run(in_run(supervisor, logs, ZeroDivisionError("a bug")))
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"──── signs_dist: rank {rank} of 2 failed ─")
    (card,) = read_failures(logs)
    assert (card.rank, card.kind, card.error) == (rank, "error", "ZeroDivisionError: a bug")
    assert (logs / "failed.1").exists()  # the others of this attempt end
    assert read_beats(logs).keys() == {rank}  # its last beat stays for them
    assert json.loads((tmp_path / "error.json").read_text())["message"]["message"] == "ZeroDivisionError: a bug"


def test_a_user_error_in_a_run_is_shown_by_the_process_that_had_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor = make(rank=1, world_size=2)
    with pytest.raises(Ended) as ended:
        supervisor.run(in_run(supervisor, tmp_path, UserError("photo.jpg cannot be read")))
    assert ended.value.code == 2
    assert "photo.jpg cannot be read" in capsys.readouterr().err


def test_a_process_that_lost_another_leaves_the_word_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make(rank=1, world_size=2)
    card = FailureCard.from_exception(ZeroDivisionError("a bug"), other._identity, other.pulse, exit_code=1)
    supervisor, reasons = make(rank=0, world_size=2), list[str]()
    supervisor.when_known = reasons.append

    def action() -> None:
        with supervisor.watching(tmp_path, tmp_path / "rank0.log", 1):
            write_failure(tmp_path, card, 1)
            raise RuntimeError("Connection closed by peer [127.0.0.1]:1234")

    with pytest.raises(Ended) as ended:
        supervisor.run(action)
    assert ended.value.code == 3
    assert capsys.readouterr().err == ""
    assert len(reasons) == 1
    assert "ZeroDivisionError: a bug" in reasons[0]
    own = next(found for found in read_failures(tmp_path) if found.told_by == 0)
    assert own.error.startswith("lost ")


@pytest.mark.parametrize(("rank", "speaks"), [(0, True), (1, False)])
def test_of_a_run_folder_that_was_moved_rank_0_tells(
    tmp_path: Path, rank: int, speaks: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    logs, supervisor = tmp_path / "logs", make(rank=rank, world_size=2)
    logs.mkdir()

    def action() -> None:
        with supervisor.watching(logs, logs / "log", 1):
            logs.rename(tmp_path / "moved")
            raise RuntimeError("Connection closed by peer")

    with pytest.raises(Ended) as ended:
        supervisor.run(action)
    assert ended.value.code == 3
    assert bool(capsys.readouterr().err) is speaks


@pytest.mark.parametrize(("rank", "speaks"), [(0, True), (2, False)])
def test_of_those_that_lost_a_silent_process_the_lowest_speaks(
    tmp_path: Path, rank: int, speaks: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make(rank=2 - rank, world_size=3)
    lost = PeerLostError("rank 1 does not answer")
    card = FailureCard.from_exception(lost, other._identity, other.pulse, exit_code=3)
    supervisor = make(rank=rank, world_size=3)

    def action() -> None:
        with supervisor.watching(tmp_path, tmp_path / "log", 1):
            write_failure(tmp_path, card, 1)
            raise RuntimeError("Connection reset by peer")

    with pytest.raises(Ended) as ended:
        supervisor.run(action)
    assert ended.value.code == 3
    assert bool(capsys.readouterr().err) is speaks


@pytest.mark.parametrize(
    ("rank", "cause", "speaks"), [(0, None, True), (1, None, False), (1, OSError("no route"), True)]
)
def test_who_tells_that_a_process_did_not_arrive(
    rank: int, cause: Exception | None, speaks: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    error = PeerLostError("rank 1 did not arrive within 60 s")
    error.__cause__ = cause
    with pytest.raises(Ended) as ended:
        make(rank=rank, world_size=2).run(failing(error))
    assert ended.value.code == 3
    assert capsys.readouterr().err == ("error: rank 1 did not arrive within 60 s\n" if speaks else "")


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), *(error for error, *_ in RAISED)])
def test_in_a_library_one_process_raises_everything(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    supervisor, reasons = make(), list[str]()
    supervisor.when_known = reasons.append
    with pytest.raises(type(error)) as raised:
        supervisor.run_for_library(failing(error))
    assert raised.value is error
    assert len(reasons) == 1
    assert capsys.readouterr().err == ""


def test_in_a_library_several_processes_end_as_in_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Ended) as ended:
        make(world_size=2).run_for_library(failing(ZeroDivisionError("a bug")))
    assert ended.value.code == 1
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err


def test_a_run_that_is_watched_has_a_heartbeat_and_leaves_none(tmp_path: Path) -> None:
    supervisor = make()
    with supervisor.watching(tmp_path, tmp_path / "rank0.log", 1):
        supervisor.pulse.enter("forward", epoch=2, step=3)
        deadline = time.monotonic() + 5
        while (beat := read_beats(tmp_path).get(0)) is None or beat.phase != "forward":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert (beat.epoch, beat.step, beat.identity.log) == (2, 3, str(tmp_path / "rank0.log"))
    assert read_beats(tmp_path) == {}
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_a_full_disk_does_not_hide_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_failure", full)
    supervisor = make(world_size=2)
    with pytest.raises(Ended):
        supervisor.run(in_run(supervisor, tmp_path, ZeroDivisionError("a bug")))
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err


@pytest.mark.parametrize(("rank", "world_size"), [(0, 1), (0, 3), (1, 3)])
def test_rank_0_shows_the_card_of_the_process_whose_hardware_is_faulty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rank: int, world_size: int
) -> None:
    supervisor, reasons = make(rank=rank, world_size=world_size), list[str]()
    supervisor.when_known = reasons.append
    faulty = Identity(2, 3, "n7", 1234, "cuda:1", "logs/rank2.log")
    with pytest.raises(SystemExit if world_size == 1 else Ended) as ended:
        supervisor.run(in_run(supervisor, tmp_path, FaultyHardwareError("rank 2 is faulty", faulty, ("n7",))))
    assert ended.value.code == 1
    assert reasons == ["FaultyHardwareError: rank 2 is faulty"]
    text = capsys.readouterr().err
    if rank == 1:
        assert text == ""
        return
    assert text.startswith("──── signs_dist: rank 2 of 3 failed ─")
    assert " where  n7, cuda:1, in " in text
    (card,) = read_failures(tmp_path)
    assert (card.rank, card.host, card.device, card.log, card.told_by) == (2, "n7", "cuda:1", "logs/rank2.log", 0)
