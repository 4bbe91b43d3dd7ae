"""Real runs that are killed and gone on with, on other numbers of processes: one result, nothing twice or missing."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from signs_dist.environment.process_table import find_descendants
from signs_dist.monitoring.beats import read_beats
from signs_dist.run_folder.chain import check_chain
from signs_dist.run_folder.digest import find_damage
from signs_dist.run_folder.folder import RunFolder
from tests.processes import finish, program_command, run, started, torchrun_command, train_command, wait_for
from tests.sets import small_run, write_colour_set
from tests.shared import shared_folder

pytestmark = pytest.mark.slow

CHANGING = ("images_per_second", "data_wait_share", "stall_seconds", "last_write_seconds")
"""Numbers of metrics.jsonl that tell of the machine, not of the run."""


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # One folder for all workers: the files of a run name it, and runs are compared.
    with shared_folder(tmp_path_factory, "colours of resumed runs") as folder:
        if not (folder / "done").exists():
            write_colour_set(folder / "set", counts={"train": 33, "val": 5})
            (folder / "done").touch()
    return folder / "set"


def settings(root: Path, *more: str) -> list[str]:
    kept = ("train.final_weights=best", "evaluate.best_by=macro_f1")
    saved = ("log.every_steps=1", "checkpoint.every_steps=5")
    return small_run(root, "exact=true", *kept, *saved, *more, epochs=4, global_batch=8)


@pytest.fixture(scope="module")
def whole(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run, trained once for all workers of a test run."""
    with shared_folder(tmp_path_factory, "whole") as folder:
        if not (folder / "run" / "result.json").exists():
            ended = run(train_command("--run-dir", "run", *settings(colours)), folder)
            assert ended.code == 0, ended.err
    return folder / "run"


@pytest.fixture
def stopped(colours: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of a run that was stopped after step 19, in the folder `run` of this test."""
    with shared_folder(tmp_path_factory, "stopped") as folder:
        if not (folder / "done").exists():
            with started(launch(1, "--run-dir", "run", *settings(colours)), folder) as process:
                wait_for(folder / "run" / "metrics.jsonl", '"step": 19,')
                os.kill(process.pid, signal.SIGTERM)
                assert finish(process).code == 75
            (folder / "done").touch()
    shutil.copytree(folder / "run", tmp_path / "run")
    return tmp_path / "run"


def result(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return value


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in line.items() if name not in CHANGING}
        # The line of a state is written when its file is whole: it may come late.
        for line in sorted(lines(folder / "metrics.jsonl"), key=lambda line: (line["step"], line["kind"] == "state"))
        if line["kind"] != "save"
    ]


def states(folder: Path) -> dict[int, str]:
    return {line["step"]: line["state"] for line in metrics(folder) if line["kind"] == "state"}


def assert_same(folder: Path, whole: Path, *, saves_alike: bool = True) -> None:
    """The same run; with other settings of saves, other states have lines, and equal states equal digests."""
    for name in ("weights_sha256", "weights", "val_loss", "val_confusion", "best_epoch", "best_val_accuracy", "steps"):
        assert result(folder)[name] == result(whole)[name], name
    for file in ("predictions-val.jsonl", "training-images.png", "training-images.jsonl"):
        assert (folder / file).read_bytes() == (whole / file).read_bytes(), file
    assert check_chain(RunFolder(folder).read_metrics()) == []
    found, expected = metrics(folder), metrics(whole)
    if not saves_alike:
        one, other = states(folder), states(whole)
        assert {step: one[step] for step in other if step in one} == {
            step: other[step] for step in one if step in other
        }
        assert one.keys() >= {12, 24, 36, 48}
        found, expected = ([line for line in lines if line["kind"] != "state"] for lines in (found, expected))
    assert found == expected


def launch(world_size: int, *arguments: str) -> list[str]:
    if world_size == 1:
        return train_command(*arguments)
    return [sys.executable, "-m", "launch.local", "--nproc", str(world_size), "--", *arguments]


def test_killed_at_any_step_and_gone_on_with_on_other_numbers_of_processes(
    colours: Path, whole: Path, tmp_path: Path
) -> None:
    arguments = ["--run-dir", "run", *settings(colours)]
    for world_size, step in ((4, 7), (1, 18), (2, 29), (3, 41)):
        with started(launch(world_size, *arguments), tmp_path) as process:
            wait_for(tmp_path / "run" / "metrics.jsonl", f'"step": {step},')
            if step == 41:  # step 40 is saved in the background
                wait_for(tmp_path / "run" / "checkpoints" / "epoch-0004-step-000004.pt.sha256", ".pt")
            for pid in (process.pid, *find_descendants(process.pid)):
                os.kill(pid, signal.SIGKILL)
            finish(process)
    assert not (tmp_path / "run" / "result.json").exists()
    ended = run(launch(1, *arguments), tmp_path)
    assert ended.code == 0, ended.err
    assert "attempt 5 resumes after epoch 4, step " in ended.out
    assert_same(tmp_path / "run", whole)
    attempts = lines(tmp_path / "run" / "attempts.jsonl")
    assert [(line["attempt"], line["event"]) for line in attempts] == [
        (number, event) for number in range(1, 6) for event in ("start", "end")
    ]
    assert [line["reason"] for line in attempts if line["event"] == "end"] == [
        *["killed without a message"] * 4,
        "finished",
    ]
    assert [line["world_size"] for line in attempts if line["event"] == "start"] == [4, 1, 2, 3, 1]
    for end, start in zip(attempts[1:-1:2], attempts[2::2], strict=True):
        assert end["seconds_lost"] >= 0
        assert start["first_step"] <= end["last_step"] + 1
    again = run(launch(1, *arguments), tmp_path)
    assert again.code == 0
    assert again.out.startswith("finished: run holds the result of this run.")


def test_images_on_the_device_give_the_same_on_two_processes(colours: Path, whole: Path, tmp_path: Path) -> None:
    ended = run(launch(2, "--run-dir", "run", *settings(colours, "data.storage=device")), tmp_path)
    assert ended.code == 0, ended.out + ended.err
    assert "all on the device, 0.1 MB, in each of 2 processes" in ended.out
    assert_same(tmp_path / "run", whole)


def test_a_run_goes_on_with_its_images_on_the_device(colours: Path, whole: Path, stopped: Path) -> None:
    command = train_command("--run-dir", "run", *settings(colours, "data.storage=device"))
    ended = run(command, stopped.parent)
    assert ended.code == 0, ended.out + ended.err
    assert_same(stopped, whole)
    again = run(train_command("--run-dir", "run", *settings(colours)), stopped.parent)
    assert again.out.startswith("finished: run holds the result of this run.")


@pytest.mark.parametrize(
    ("world_size", "sent", "code"),
    [(1, signal.SIGTERM, 75), (1, signal.SIGUSR2, 75), (2, signal.SIGTERM, 75), (1, signal.SIGINT, 130)],
)
def test_a_signal_to_the_whole_group_stops_at_a_step_and_loses_nothing(
    colours: Path, whole: Path, tmp_path: Path, world_size: int, sent: signal.Signals, code: int
) -> None:
    # Without saves by steps: what the signal makes is all that is there.
    arguments = ["--run-dir", "run", *settings(colours, "checkpoint.every_steps=null")]
    with_workers = [*arguments, "data.num_workers=2"]
    with started(launch(world_size, *with_workers), tmp_path) as process:
        wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 15,')
        children = find_descendants(process.pid)
        os.killpg(process.pid, sent)
        ended = finish(process, timeout=40)
    assert ended.code == code, ended.out + ended.err
    assert ended.seconds < 15
    deadline = time.monotonic() + 10
    while (left := [child for child in children if Path(f"/proc/{child}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    end = lines(tmp_path / "run" / "attempts.jsonl")[-1]
    assert end["seconds_lost"] == 0
    assert end["reason"].startswith(f"stopped by {'Ctrl-C' if sent == signal.SIGINT else sent.name} after epoch ")
    ended = run(launch(1, *arguments), tmp_path)
    assert ended.code == 0, ended.err
    assert lines(tmp_path / "run" / "attempts.jsonl")[2]["first_step"] == end["last_step"]
    assert_same(tmp_path / "run", whole, saves_alike=False)


@pytest.mark.parametrize("to", ["launcher", "every process"])
def test_processes_of_launch_local_get_sigusr2_as_itself(colours: Path, tmp_path: Path, to: str) -> None:
    """So that a save may take as long as the scheduler's notice, and not as long as torch gives after SIGTERM."""
    arguments = ["--run-dir", "run", *settings(colours, "checkpoint.every_steps=null", "train.epochs=40")]
    with started(launch(2, *arguments), tmp_path) as process:
        wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 15,')
        ranks = [beat.identity.pid for beat in read_beats(tmp_path / "run" / "logs").values()]
        for pid in ranks:
            os.kill(pid, signal.SIGSTOP)  # as slow as those that save for long
        others = find_descendants(process.pid) if to == "every process" else []  # as SLURM signals a step
        for pid in others:
            os.kill(pid, signal.SIGUSR2)
        time.sleep(1)  # the agent is waiting for its workers when the launcher passes on a second one
        os.kill(process.pid, signal.SIGUSR2)
        time.sleep(2)
        for pid in ranks:
            os.kill(pid, signal.SIGCONT)
        ended = finish(process)
    assert ended.code == 75, ended.out + ended.err
    assert lines(tmp_path / "run" / "attempts.jsonl")[-1]["reason"].startswith("stopped by SIGUSR2 after epoch ")


def test_a_signal_to_one_rank_stops_all(colours: Path, whole: Path, tmp_path: Path) -> None:
    arguments = ["--run-dir", "run", *settings(colours)]
    with started(launch(2, *arguments), tmp_path) as process:
        wait_for(tmp_path / "run" / "logs" / "rank1.beat", '"rank": 1')
        wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 9,')
        beat = json.loads((tmp_path / "run" / "logs" / "rank1.beat").read_text())
        os.kill(beat["identity"]["pid"], signal.SIGUSR2)
        ended = finish(process, timeout=40)
    assert ended.code == 75, ended.out + ended.err
    assert run(launch(3, *arguments), tmp_path).code == 0
    assert_same(tmp_path / "run", whole)


def test_where_there_is_no_time_for_a_save_the_last_one_counts(colours: Path, whole: Path, tmp_path: Path) -> None:
    arguments = train_command("--run-dir", "run", *settings(colours, "train.epochs=4", "checkpoint.every_steps=1"))
    # As torchrun, or SLURM, would tell it: the kill comes sooner after SIGTERM than any save is written.
    hurry = {"RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "7", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "0.00001"}
    with started(arguments, tmp_path, hurry) as process:
        wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 3,')
        process.send_signal(signal.SIGTERM)
        ended = finish(process, timeout=60)
    assert ended.code == 75, ended.err
    assert (
        "not saved: a save takes 0 s, and the process is killed 1e-05 s after SIGTERM; the newest save is run/"
        in ended.out
    )
    assert lines(tmp_path / "run" / "attempts.jsonl")[-1]["reason"].startswith("stopped by SIGTERM after epoch ")
    assert "start torchrun with --shutdown-timeout" in ended.out + ended.err  # said at the second save
    # Its next attempt knows that before its own first save is over.
    with started([*arguments, "checkpoint.every_steps=1000"], tmp_path, hurry) as process:
        wait_for(tmp_path / "run" / "attempts.jsonl", '"attempt": 2')
        step = lines(tmp_path / "run" / "attempts.jsonl")[-1]["first_step"] + 1
        wait_for(tmp_path / "run" / "metrics.jsonl", f'"step": {step},')
        process.send_signal(signal.SIGTERM)
        ended = finish(process, timeout=60)
    assert ended.code == 75, ended.err
    assert "not saved: a save takes 0 s" in ended.out
    assert run(arguments, tmp_path).code == 0
    assert_same(tmp_path / "run", whole, saves_alike=False)


def test_the_second_run_in_a_folder_is_refused(colours: Path, tmp_path: Path) -> None:
    arguments = ["--run-dir", "run", *settings(colours, "train.epochs=1000")]
    with started(train_command(*arguments), tmp_path) as process:
        wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 3,')
        second = run(train_command(*arguments), tmp_path)
        assert second.code == 2
        assert f"run is in use by process {process.pid} on " in second.err
        third = run(torchrun_command(2, *arguments), tmp_path)
        assert "run is in use by process" in third.err
        assert process.poll() is None


def test_a_broken_checkpoint_is_named_and_the_one_before_used(
    colours: Path, whole: Path, stopped: Path, tmp_path: Path
) -> None:
    arguments = ["--run-dir", "run", *settings(colours)]
    checkpoints = stopped / "checkpoints"
    *_, before, newest = sorted(checkpoints.glob("epoch*.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    ended = run(launch(2, *arguments), tmp_path)
    assert ended.code == 0, ended.err
    assert f"{newest.name} is broken: its SHA-256 differs from the SHA-256 beside it." in ended.out
    assert f"the checkpoint before it is whole: run/checkpoints/{before.name}" in ended.out
    assert (checkpoints / f"{newest.name}.broken").is_file()
    assert_same(tmp_path / "run", whole)


def test_a_run_with_only_broken_checkpoints_is_not_begun_anew(colours: Path, stopped: Path, tmp_path: Path) -> None:
    arguments = ["--run-dir", "run", *settings(colours)]
    for path in (tmp_path / "run" / "checkpoints").glob("epoch*.pt"):
        path.write_bytes(path.read_bytes()[:100])
    for _ in range(2):
        ended = run(launch(1, *arguments), tmp_path)
        assert ended.code == 2
        assert "this run has saved checkpoints, but none is whole" in ended.err


def test_what_would_give_another_result_is_refused_unless_named(colours: Path, stopped: Path, tmp_path: Path) -> None:
    arguments = ["--run-dir", "run", *settings(colours)]
    ended = run(launch(1, *arguments, "seed=5", "train.epochs=5", "log.every_steps=7"), tmp_path)
    assert ended.code == 2
    assert "seed: 0 → 5; train.epochs: 4 → 5" in ended.err
    assert "type --accept-change seed,train.epochs" in ended.err
    ended = run(launch(1, *arguments, "train.epochs=5", "--accept-change", "train.epochs"), tmp_path)
    assert ended.code == 0, ended.err
    assert "changed since: train.epochs: 4 → 5" in ended.out
    assert result(tmp_path / "run")["epochs"] == 5


@pytest.mark.parametrize("on_error", ["stop", "warn"])
def test_a_limit_on_files_in_the_middle_of_a_run(colours: Path, whole: Path, tmp_path: Path, on_error: str) -> None:
    """A limit on the size of files that comes when two checkpoints are written, as a disk that has become full."""
    arguments = ["--run-dir", "run", *settings(colours, f"checkpoint.on_error={on_error}", "checkpoint.every_steps=3")]
    with started(launch(1, *arguments), tmp_path) as process:
        wait_for(tmp_path / "run" / "metrics.jsonl", '"kind": "save", "epoch": 2')
        newest = sorted((tmp_path / "run" / "checkpoints").glob("epoch*.pt"))[-1]
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
        ended = finish(process)
    assert find_damage(newest) == ""  # the old file is as it was
    if on_error == "stop":
        assert ended.code == 74
        assert "error: cannot write run/checkpoints/epoch-00" in ended.err
        assert "Then repeat the command: it resumes from the checkpoint before." in ended.err
        assert "File too large. This session limits a file to 20,000 bytes" in ended.err
        assert lines(tmp_path / "run" / "attempts.jsonl")[-1]["reason"].startswith("SaveError: cannot write")
    else:
        # It trains to its end. Then it lacks the checkpoint of the best epoch, or the weights themselves are too large.
        assert ended.code == 2
        assert "warning: cannot write run/checkpoints/" in ended.out
        assert "Training continues without this checkpoint (checkpoint.on_error=warn)." in ended.out
        ends = ("cannot write run/model.pt: File too large.", "train.final_weights=best needs the checkpoint of epoch ")
        assert ended.err.startswith(tuple(f"error: {end}" for end in ends))
    assert run(launch(1, *arguments), tmp_path).code == 0
    assert_same(tmp_path / "run", whole, saves_alike=False)


NAMES = ("two words", 'it\'s "one"', "line\nbreak", "../up", "$(touch pwned)", "ü;x")


def test_awkward_names_go_on_like_others(colours: Path, whole: Path, tmp_path: Path) -> None:
    """Two attempts of each name; all in one process, to save the imports."""
    (tmp_path / "work").mkdir()
    command = program_command(tmp_path, TWO_ATTEMPTS, json.dumps(NAMES), *settings(colours))
    ended = run(command, tmp_path / "work")
    assert ended.code == 0, ended.err
    told = ended.out.split("next name\n")[1:]
    assert len(told) == len(NAMES)
    for name, text in zip(NAMES, told, strict=True):
        assert f"python -m signs_dist.train --run-dir {shlex.quote(name)} " in text  # to be pasted
        assert [
            line["reason"].split(" after ")[0] for line in lines(tmp_path / "work" / name / "attempts.jsonl")[1::2]
        ] == [
            "stopped by SIGTERM",
            "finished",
        ]
        assert_same(tmp_path / "work" / name, whole)
    assert not (tmp_path / "work" / "pwned").exists()
    assert {path.name for path in (tmp_path / "work").iterdir()} == {*NAMES} - {"../up"}


TWO_ATTEMPTS = """
import json, os, signal, sys
from signs_dist.console.command import run_command
from signs_dist.train import main
from signs_dist.training.trainer import Trainer

# The first attempt of each name gets SIGTERM at its step 7.
after_step = Trainer._after_step
def stop_at_7(self, sums):
    if self._run_state.steps_done == 7:
        os.kill(os.getpid(), signal.SIGTERM)
    after_step(self, sums)
Trainer._after_step = stop_at_7

for name in json.loads(sys.argv[1]):
    print("next name", flush=True)
    codes = [run_command(main, ["--run-dir", name, *sys.argv[2:]]) for attempt in range(2)]
    assert codes == [75, 0], codes
"""


def test_many_resumes_leave_no_growth(colours: Path, tmp_path: Path) -> None:
    """100 attempts, each stopped by SIGTERM after its first step, in one process to save the imports."""
    arguments = ["--run-dir", "run", *settings(colours, "train.epochs=9"), "--quiet"]  # 108 steps
    # One heap for all threads: how many heaps glibc makes depends on which threads happen to meet.
    one_heap = {"MALLOC_ARENA_MAX": "1"}
    ended = run([sys.executable, "-c", RESUMER, "100", *arguments], tmp_path, one_heap, timeout=500)
    assert ended.code == 0, ended.err
    told = json.loads(ended.out.splitlines()[-1])
    assert told["stopped"] == 100
    # Files: as many after 100 attempts as after 20. Memory: what each attempt leaves would be seen in both halves of
    # the others; a table of Python's that grows once, such as that of interned texts, is seen in one.
    assert told["files"][-1] == told["files"][19]
    kilobytes = told["kilobytes"]
    assert min(kilobytes[59] - kilobytes[19], kilobytes[99] - kilobytes[59]) < 2_200, kilobytes[19::10]
    assert run(launch(1, *arguments), tmp_path).code == 0
    steps = [line["step"] for line in lines(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "step"]
    assert steps == sorted(set(steps))
    assert len(lines(tmp_path / "run" / "attempts.jsonl")) == 202
    assert run(launch(1, "--run-dir", "whole", *arguments[2:]), tmp_path).code == 0
    assert_same(tmp_path / "run", tmp_path / "whole")


RESUMER = """
import ctypes, json, os, signal, sys, threading
from pathlib import Path
from signs_dist.monitoring import signals as interrupt
from signs_dist.train import main
from signs_dist.errors import StoppedError

# A signal as soon as the handler is there: the attempt stops after its first step.
handling = interrupt.StopRequest.handling
def stopping(self):
    block = handling(self)
    enter = type(block).__enter__
    class Block:
        def __enter__(_): enter(block); os.kill(os.getpid(), signal.SIGTERM)
        def __exit__(_, *error): return type(block).__exit__(block, *error)
    return Block()
interrupt.StopRequest.handling = stopping

stopped, files, kilobytes = 0, [], []
for attempt in range(int(sys.argv[1])):
    try:
        main(sys.argv[2:])
    except StoppedError:
        stopped += 1
    files.append(sum(1 for path in Path("run").rglob("*") if path.is_file()))
    ctypes.CDLL(None).malloc_trim(0)  # give back what is free already
    rows = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    kilobytes.append(int(rows["VmRSS"].split()[0]))
print(json.dumps({"stopped": stopped, "files": files, "kilobytes": kilobytes}))
"""
