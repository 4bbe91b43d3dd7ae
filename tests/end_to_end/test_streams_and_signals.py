"""Runs and commands whose terminal goes, whose output nobody reads, and that are signalled at any moment."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from signs_dist.checkpoint import main as checkpoint
from signs_dist.console.command import Main, run_command
from signs_dist.data.audit import main as audit
from signs_dist.data.build import main as build
from signs_dist.data.synthetic import main as synthetic
from signs_dist.environment.process_table import find_descendants, kill_tree
from signs_dist.evaluate import main as evaluate
from signs_dist.predict import main as predict
from signs_dist.run_folder.folder import RunFolder
from signs_dist.train import main as train
from signs_dist.training import run as training_run
from tests.processes import PATIENCE, environment, train_command, wait_for, wait_until, without_reader
from tests.sets import small_run, write_colour_set


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 17, "val": 5})


def settings(root: Path, *more: str) -> list[str]:
    return small_run(root, "log.every_steps=1", *more, epochs=100_000, global_batch=8)


def short(root: Path) -> list[str]:
    return small_run(root, epochs=1, global_batch=8)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def last_attempt(run: Path) -> dict[str, Any]:
    return lines(run / "attempts.jsonl")[-1]


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The process is killed after the block, with all below it."""
    try:
        yield process
    finally:
        kill_tree(process.pid)
        process.wait()


@pytest.mark.slow
def test_a_run_whose_terminal_goes_is_saved(colours: Path, tmp_path: Path) -> None:
    """One process in the foreground of a terminal, with loader workers, which get SIGHUP too."""
    master, slave = os.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    command = train_command("--run-dir", "run", *settings(colours, "data.storage=files", "data.num_workers=1"))
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdin=slave, stdout=slave, stderr=slave, preexec_fn=take_terminal
    )
    os.close(slave)
    is_shown, seen = threading.Event(), []

    def show() -> None:
        while not is_shown.is_set():
            seen.append(os.read(master, 4096))
        os.close(master)  # the terminal's window is closed

    with ended(process):
        threading.Thread(target=show, daemon=True).start()
        wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 2')
        is_shown.set()
        assert process.wait(timeout=PATIENCE) == 75
    assert b"training" in b"".join(seen)
    assert last_attempt(tmp_path / "run")["reason"].startswith("stopped by SIGHUP after epoch ")
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()


def count_steps(run: Path) -> int:
    return (run / "metrics.jsonl").read_text().count('"kind": "step"')


@pytest.mark.slow
def test_processes_without_a_reader_below_nohup_train_on_until_they_are_stopped(colours: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "launch.local", "--nproc", "2", "--", "--run-dir", "run", *settings(colours)]
    run = tmp_path / "run"
    with (
        subprocess.Popen(
            ["nohup", *command],
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process,
        ended(process),
    ):
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        wait_for(run / "logs" / "rank0.log", "standard output cannot be written any more (Broken pipe)")
        wait_for(run / "metrics.jsonl", '"step": 2')
        for pid in (process.pid, *find_descendants(process.pid)):
            os.kill(pid, signal.SIGHUP)
        before = count_steps(run)
        wait_until(lambda: count_steps(run) > before + 5)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 75
    assert last_attempt(run)["reason"].startswith("stopped by SIGTERM after epoch ")
    assert last_attempt(run)["last_step"] > before


@pytest.mark.slow
def test_a_signal_while_hands_are_drawn_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        train_command("--run-dir", "run", "data.synthetic.train=6000", "data.image_size=64"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process, ended(process):
        wait_until(lambda: any((tmp_path / "data").glob(".*.part/train_signs/*")), PATIENCE)
        for _ in range(2):
            os.killpg(process.pid, signal.SIGTERM)
            time.sleep(0.05)
        _, said = process.communicate(timeout=PATIENCE)
        assert (process.returncode, said) == (75, b"stopped by SIGTERM: repeat the command\n")
    assert [path.name for path in (tmp_path / "data").iterdir() if path.is_dir()] == []
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def trained(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert run_command(train, ["--run-dir", str(folder), *short(colours)]) == 0
    return folder


@pytest.mark.parametrize(
    ("main", "arguments", "code", "written"),
    [
        (train, ["--run-dir", "{out}", "{settings}"], 0, "result.json"),
        (train, ["--explain"], 141, ""),
        (evaluate, ["{run}", "--json", "{out}/scores.json"], 0, "scores.json"),
        (evaluate, ["{run}"], 141, ""),
        (predict, ["{run}", "{photos}", "--csv", "{out}/photos.csv"], 0, "photos.csv"),
        (predict, ["{run}", "{photos}", "--json", "{out}/photos.json"], 0, "photos.json"),
        (predict, ["{run}", "{photos}"], 141, ""),
        (build, ["--source", "{photos}", "--out", "{out}", "--processes", "1"], 0, "build.json"),
        (audit, ["{photos}", "--processes", "1"], 141, ""),
        (
            synthetic,
            ["--out", "{out}", "--train", "6", "--val", "0", "--test", "0", "--size", "16"],
            0,
            "synthetic.json",
        ),
        (checkpoint, ["show", "{run}"], 141, ""),
        (checkpoint, ["verify", "{run}"], 141, ""),
    ],
)
def test_a_command_whose_result_is_a_file_does_not_need_a_reader(
    main: Main,
    arguments: list[str],
    code: int,
    written: str,
    trained: Path,
    colours: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    places = {"{run}": [str(trained)], "{photos}": [str(colours)], "{settings}": short(colours)}
    given = [word.replace("{out}", str(out)) for each in arguments for word in places.get(each, [each])]
    with without_reader() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert run_command(main, given) == code
    assert capsys.readouterr().err == ""
    assert not written or (out / written).stat().st_size


def signalling(monkeypatch: pytest.MonkeyPatch, name: str, number: signal.Signals) -> None:
    """A signal to this process whenever a function of `signs_dist.training.run` is called."""
    call = getattr(training_run, name)

    def signal_and_call(*arguments: Any, **named: Any) -> Any:
        signal.raise_signal(number)
        return call(*arguments, **named)

    monkeypatch.setattr(training_run, name, signal_and_call)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (signal.SIGTERM, "stopped by SIGTERM: repeat the command\n"),
        (signal.SIGHUP, "stopped by SIGHUP: repeat the command\n"),
    ],
)
@pytest.mark.parametrize("name", ["find_earlier_attempt", "prepare", "resume_from", "agree_on_folder"])
def test_a_signal_before_training_begins_ends_the_command_as_one_during_it(
    colours: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    number: signal.Signals,
    told: str,
) -> None:
    signalling(monkeypatch, name, number)
    assert run_command(train, ["--run-dir", str(tmp_path / "run"), *short(colours)]) == 75
    assert capsys.readouterr().err == told
    assert not (tmp_path / "run" / "lease.json").exists()
    assert not (tmp_path / "run" / "attempts.jsonl").exists()


@pytest.mark.parametrize(
    ("first", "code", "reason"),
    [(signal.SIGTERM, 75, "SIGTERM"), (signal.SIGHUP, 75, "SIGHUP"), (signal.SIGINT, 130, "Ctrl-C")],
)
def test_signals_from_the_first_line_of_an_attempt_to_its_last_set_a_flag(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: signal.Signals, code: int, reason: str
) -> None:
    signalling(monkeypatch, "begin_attempt", first)
    signalling(monkeypatch, "banner_lines", signal.SIGINT)
    signalling(monkeypatch, "end_attempt", first)
    run_path = tmp_path / "run"
    assert run_command(train, ["--run-dir", str(run_path), *short(colours)]) == code
    begun, end = lines(run_path / "attempts.jsonl")
    assert (begun["event"], end["event"]) == ("start", "end")
    assert end["reason"].startswith(f"stopped by {reason} after epoch 1, step 1 of ")
    assert (run_path / "checkpoints" / "last.pt").exists()


def test_a_signal_while_the_result_is_written_does_not_undo_it(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_result = RunFolder.write_result

    def signal_and_write(folder: RunFolder, result: dict[str, Any]) -> None:
        signal.raise_signal(signal.SIGTERM)
        write_result(folder, result)

    monkeypatch.setattr(RunFolder, "write_result", signal_and_write)
    assert run_command(train, ["--run-dir", str(tmp_path / "run"), *short(colours)]) == 0
    assert lines(tmp_path / "run" / "attempts.jsonl")[-1]["reason"] == "finished"
