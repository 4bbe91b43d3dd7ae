"""One run at a time works in a run folder; the next run takes over the lease of a dead one."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from signs_dist.environment.process_table import read_birth
from signs_dist.errors import TrainingFailedError, UserError
from signs_dist.run_folder import lease
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.lease import NAME, REQUEST, Holder, Lease, find_holder

RACER = """
import sys, os
from pathlib import Path
from signs_dist.errors import UserError
from signs_dist.run_folder.lease import Lease
print("ready", flush=True)
sys.stdin.readline()
held = []
for number in range(50):
    try:
        folder = Path(sys.argv[1]) / str(number)
        held.append(Lease.acquire(folder, host="here", pid=os.getpid(), takeover_seconds=60))
        print(number, flush=True)
    except UserError as error:
        assert "is in use by process" in str(error), error
print("done", flush=True)
sys.stdin.readline()
"""


def racer(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RACER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def read_until(process: subprocess.Popen[str], word: str) -> list[str]:
    assert process.stdout is not None
    words = []
    while (line := process.stdout.readline().strip()) != word:
        assert line, "the process has ended"
        words.append(line)
    return words


def acquire(folder: Path, *, host: str = "here", takeover_seconds: float = 60.0) -> Lease:
    return Lease.acquire(folder, host=host, pid=os.getpid(), takeover_seconds=takeover_seconds)


@pytest.mark.parametrize("is_stale", [False, True])
def test_one_of_two_processes_gets_the_lease(tmp_path: Path, is_stale: bool) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    for number in range(50):
        (tmp_path / str(number)).mkdir()
        if is_stale:
            stale = dataclasses.replace(Holder.here("here", gone.pid), born="1")
            (tmp_path / str(number) / NAME).write_text(json.dumps(dataclasses.asdict(stale)))
    racers = [racer(tmp_path) for _ in range(2)]
    try:
        for process in racers:
            read_until(process, "ready")
        for process in racers:
            say(process)
        wins = [read_until(process, "done") for process in racers]
    finally:
        for process in racers:
            process.communicate("end\n")
    assert [process.returncode for process in racers] == [0, 0]
    assert sorted(wins[0] + wins[1], key=int) == [str(number) for number in range(50)]
    leftovers = {path.name for number in range(50) for path in (tmp_path / str(number)).iterdir()}
    assert leftovers == {NAME}  # both ended without a release


def test_a_lease_is_kept_and_released(tmp_path: Path) -> None:
    held = acquire(tmp_path, takeover_seconds=2)
    begun = (tmp_path / NAME).stat().st_mtime_ns
    assert find_holder(tmp_path, host="here", takeover_seconds=2).startswith(f"{tmp_path} is in use by process ")
    with pytest.raises(UserError, match=rf"is in use by process {os.getpid()} on here, seen 0 s ago"):
        acquire(tmp_path)
    deadline = time.monotonic() + 10
    while (tmp_path / NAME).stat().st_mtime_ns == begun and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (tmp_path / NAME).stat().st_mtime_ns > begun
    held.release()
    assert list(tmp_path.iterdir()) == []
    assert find_holder(tmp_path, host="here", takeover_seconds=2) == ""
    acquire(tmp_path).release()


def test_a_killed_process_on_this_machine_loses_its_lease_at_once(tmp_path: Path) -> None:
    process = racer(tmp_path)
    for number in range(50):
        (tmp_path / str(number)).mkdir()
    read_until(process, "ready")
    say(process)
    read_until(process, "done")
    folder = tmp_path / "7"
    process.send_signal(signal.SIGSTOP)  # lives, but does not touch the lease
    with pytest.raises(UserError, match=f"is in use by process {process.pid}"):
        acquire(folder)
    process.kill()
    process.communicate()
    begun = time.monotonic()
    acquire(folder).release()
    assert time.monotonic() - begun < 5


def test_a_reused_process_id_does_not_keep_the_lease(tmp_path: Path) -> None:
    earlier = dataclasses.replace(Holder.here("here", os.getppid()), born="12345")
    (tmp_path / NAME).write_text(json.dumps(dataclasses.asdict(earlier)))
    assert read_birth(os.getppid()) not in ("", "12345")
    acquire(tmp_path).release()


def lease_of_elsewhere(folder: Path) -> Path:
    """The lease of a process on another machine."""
    there = dataclasses.replace(Holder.here("there", 1), machine="there")
    (folder / NAME).write_text(json.dumps(dataclasses.asdict(there)))
    return folder / NAME


def test_a_silent_holder_on_another_machine_is_taken_over_in_time(tmp_path: Path) -> None:
    lease_of_elsewhere(tmp_path)
    begun = time.monotonic()
    held = acquire(tmp_path, takeover_seconds=1.0)
    assert 0.9 < time.monotonic() - begun < 8
    assert Holder.read(tmp_path / NAME) == held._holder
    held.release()


def test_a_live_holder_on_another_machine_keeps_the_lease(tmp_path: Path) -> None:
    path = lease_of_elsewhere(tmp_path)
    done = threading.Event()

    def live() -> None:
        while not done.wait(0.3):
            os.utime(path)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        begun = time.monotonic()
        with pytest.raises(UserError, match="is in use by process 1 on there"):
            acquire(tmp_path, takeover_seconds=30.0)
        assert time.monotonic() - begun < 10
    finally:
        done.set()
        thread.join()


def test_a_holder_that_was_taken_over_keeps_off_the_new_lease(tmp_path: Path) -> None:
    held = acquire(tmp_path, takeover_seconds=2)
    lease_of_elsewhere(tmp_path)
    deadline = time.monotonic() + 10
    while not held.is_lost and time.monotonic() < deadline:
        time.sleep(0.05)
    assert held.is_lost
    held.release()
    holder = Holder.read(tmp_path / NAME)
    assert holder is not None
    assert holder.host == "there"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"token": "a"}', "\x00\x01", '{"pid": "x"}'])
def test_an_unreadable_lease_counts_as_a_holder_on_another_machine(tmp_path: Path, content: str) -> None:
    (tmp_path / NAME).write_text(content)
    os.utime(tmp_path / NAME, (1, 1))
    held = acquire(tmp_path, takeover_seconds=1.0)
    assert Holder.read(tmp_path / NAME) == held._holder
    held.release()


def test_a_lease_that_is_released_meanwhile_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [acquire(tmp_path)]
    real = lease._wait_for_touch

    def give_back(*arguments: Any) -> None:
        if held:
            held.pop().release()
        real(*arguments)

    monkeypatch.setattr(lease, "_wait_for_touch", give_back)
    acquire(tmp_path).release()
    assert held == []


def of_job(folder: Path, job: str, on_asked: Callable[[], None] = lambda: None) -> Lease:
    return Lease.acquire(folder, host="here", pid=os.getpid(), takeover_seconds=1.0, job=job, on_asked=on_asked)


def test_a_requeued_run_waits_for_its_previous_attempt(tmp_path: Path) -> None:
    held = acquire(tmp_path, takeover_seconds=2.0)
    timer = threading.Timer(0.5, held.release)
    timer.start()
    begun = time.monotonic()
    of_job(tmp_path, "7.1").release()
    assert 0.4 < time.monotonic() - begun < 10
    timer.join()


def test_an_attempt_that_still_runs_is_asked_for_the_lease(tmp_path: Path) -> None:
    asked = threading.Event()
    held = of_job(tmp_path, "7.9", asked.set)

    def save_and_end() -> None:
        assert asked.wait(10)
        time.sleep(1.5)  # longer than the wait for a holder that was not asked
        held.release()

    thread = threading.Thread(target=save_and_end)
    thread.start()
    later = of_job(tmp_path, "7.10")
    thread.join()
    assert Holder.read(tmp_path / NAME) == later._holder
    assert not (tmp_path / REQUEST).exists()
    # A request to one holder is not a request to the next.
    (tmp_path / REQUEST).write_text(held._holder.token)
    asked.clear()
    later.release()
    again = of_job(tmp_path, "7.0", asked.set)
    time.sleep(0.5)  # five times its look at the file
    assert not asked.is_set()
    again.release()


@pytest.mark.parametrize(
    ("holder", "comer"),
    [
        ("8.0", "7.1"),
        ("", "7.1"),
        ("7.2", "7.1"),  # the old attempt's torchrun has restarted its processes, and the new attempt holds the lease
        ("7.1", "7.1"),
        ("7.0", "7.0"),
        ("7.0", ""),
        ("", ""),
    ],
)
def test_only_an_earlier_attempt_is_asked_for_the_lease(tmp_path: Path, holder: str, comer: str) -> None:
    asked = threading.Event()
    held = of_job(tmp_path, holder, asked.set)
    with pytest.raises(UserError, match="is in use"):
        of_job(tmp_path, comer)
    assert not asked.is_set()
    held.release()
    assert list(tmp_path.iterdir()) == []


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise PermissionError

    monkeypatch.setattr(lease.os, "link", refuse)
    held = acquire(tmp_path)
    with pytest.raises(UserError, match="is in use"):
        acquire(tmp_path)
    held.release()


def take_over(folder: Path) -> None:
    """As another machine does that saw no sign of life."""
    aside = folder / "aside"
    aside.mkdir()
    lease_of_elsewhere(aside).replace(folder / NAME)
    aside.rmdir()


def test_a_process_that_was_stopped_looks_before_it_writes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").create()
    held = acquire(folder.path, takeover_seconds=3600)  # its thread looks only every six minutes
    folder.require_held = held.require_held
    folder.append(folder.metrics, {"step": 1})
    take_over(folder.path)
    for write in (
        lambda: folder.append(folder.metrics, {"step": 2}),
        lambda: folder.keep_lines(folder.metrics, lambda line: False),
        lambda: folder.write_config("seed: 0"),
        lambda: folder.write_result({"finished": True}),
    ):
        with pytest.raises(TrainingFailedError, match=r"another run has taken over .*run: .*sign of life for 3600 s"):
            write()
    assert folder.read_lines(folder.metrics) == [{"step": 1}]
    assert not folder.config.exists()
    held.release()
    assert (folder.path / NAME).exists()  # the other run's


def test_a_lease_that_a_person_removed_is_put_back(tmp_path: Path) -> None:
    held = acquire(tmp_path)
    (tmp_path / NAME).unlink()
    held.require_held()
    with pytest.raises(UserError, match="is in use by process"):
        acquire(tmp_path)
    held.release()
    assert list(tmp_path.iterdir()) == []
    held.require_held()  # released: it is not put back again
    assert list(tmp_path.iterdir()) == []


def test_a_lease_that_is_just_being_taken_over_is_not_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = acquire(tmp_path, takeover_seconds=3600)
    (tmp_path / NAME).unlink()
    place, calls = lease._put_in_place, []

    def slower(aside: Path, path: Path) -> None:
        calls.append(path)
        take_over(tmp_path)
        place(aside, path)

    monkeypatch.setattr(lease, "_put_in_place", slower)
    held.require_held()  # the faster one has it, which the next look shows
    with pytest.raises(TrainingFailedError, match="another run has taken over"):
        held.require_held()
    assert len(calls) == 1
    held.release()


def test_a_folder_that_was_moved_is_not_made_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").create()
    held = acquire(folder.path)
    folder.require_held = held.require_held
    folder.path.rename(tmp_path / "elsewhere")
    for write in (lambda: folder.append(folder.metrics, {"step": 1}), lambda: folder.write_result({"finished": True})):
        with pytest.raises(TrainingFailedError, match=r"the run folder .*run was moved.* during the run"):
            write()
    held.release()
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_a_folder_that_is_moved_just_before_a_line_is_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run").create()
    held = acquire(folder.path)
    looks = []

    def look() -> None:
        held.require_held()
        if not looks:
            folder.path.rename(tmp_path / "elsewhere")
        looks.append(1)

    folder.require_held = look
    with pytest.raises(TrainingFailedError, match="was moved"):
        folder.append(folder.metrics, {"step": 1})
    held.release()


def test_a_folder_whose_files_are_deleted_ends_the_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").create()
    held = acquire(folder.path)
    held.require_held()  # not begun yet
    folder.write_config("seed: 0")
    held.require_held()
    folder.config.unlink()
    with pytest.raises(TrainingFailedError, match=r"files of the run folder .* were deleted .* config\.yaml is gone"):
        held.require_held()
    held.release()


def test_the_time_of_a_file_in_the_future_keeps_no_lease(tmp_path: Path) -> None:
    lease_of_elsewhere(tmp_path)
    later = time.time() + 1e7  # as a file server whose clock was put back has it
    os.utime(tmp_path / NAME, (later, later))
    held = acquire(tmp_path, takeover_seconds=1.0)
    assert Holder.read(tmp_path / NAME) == held._holder
    held.release()


def test_a_lease_that_is_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(UserError, match=r"lease\.json is a folder\. Remove it"):
        acquire(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *arguments: object, **more: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(UserError, match=f"cannot write {tmp_path}: Read-only file system"):
        acquire(tmp_path)


def test_a_process_that_ends_at_once_leaves_no_lease(tmp_path: Path) -> None:
    held = acquire(tmp_path)
    held.abandon()
    assert list(tmp_path.iterdir()) == []
    held.release()
