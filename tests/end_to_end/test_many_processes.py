"""Real runs on several processes: one result, one card when something breaks, nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from signs_dist.environment.process_table import find_descendants
from signs_dist.run_folder.chain import in_order
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import MEASURED, to_fields
from tests.processes import (
    finish,
    free_port,
    rank_environment,
    run,
    run_ranks,
    started,
    torchrun_command,
    train_command,
    wait_for,
)
from tests.sets import small_run, write_colour_set

pytestmark = pytest.mark.slow

TIMES = ("images_per_second", "data_wait_share")

FAULTY_MODEL = '''
import os, signal, time
import torch
from torch import nn

class Faulty(nn.Module):
    """Does something bad on rank 1: "nan" in its third step, all others in its fifth call."""

    def __init__(self, num_classes, image_size, fault):
        super().__init__()
        self.fault, self.calls = fault, 0
        self.layer = nn.Linear(3, num_classes)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, images):
        if self.fault == "nan":  # in exact mode, where a count must be a buffer
            self.steps += self.training
            is_bad = self.training and self.steps == 3 and os.environ.get("RANK") == "1"
            return self.layer(images.mean((2, 3))) * (float("nan") if is_bad else 1.0)
        self.calls += self.training
        if self.calls == 5 and os.environ.get("RANK") == "1":
            if self.fault == "raise":
                raise ValueError("this model is broken")
            if self.fault == "exit":
                os._exit(7)
            if self.fault in ("KILL", "STOP"):
                time.sleep(1.2)  # so that a heartbeat has told where it is
                os.kill(os.getpid(), getattr(signal, "SIG" + self.fault))
            while self.fault == "loop":
                time.sleep(0.1)
        if self.fault == "slow" and self.training:
            time.sleep(0.05)
        return self.layer(images.mean((2, 3)))
'''


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colours")
    (folder / "faulty.py").write_text(FAULTY_MODEL)
    return write_colour_set(folder, counts={"train": 17, "val": 5})


def settings(root: Path, *more: str) -> list[str]:
    return small_run(root, *more, epochs=3, global_batch=16)


def faulty(root: Path, fault: str, *more: str) -> list[str]:
    return settings(
        root,
        "model.name=faulty:Faulty",
        f"model.args={{fault: {fault}}}",
        "processes.timeout_seconds=8",
        "processes.stall_seconds=2",
        *more,
    )


def result(folder: Path) -> dict[str, Any]:
    value = json.loads((folder / "result.json").read_text())
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_exact_mode_gives_one_result_on_1_to_4_processes(colours: Path, tmp_path: Path, precision: str) -> None:
    arguments = settings(colours, "exact=true", f"train.precision={precision}", "--quiet")
    assert run(train_command("--run-dir", "w1", *arguments), tmp_path).code == 0
    ended = run(torchrun_command(3, "--run-dir", "w3", *arguments), tmp_path)
    assert ended.code == 0, ended.err
    local = [sys.executable, "-m", "launch.local", "--nproc"]
    for world_size in (2, 4):
        command = [*local, str(world_size), "--", "--run-dir", f"w{world_size}", *arguments]
        ended = run(command, tmp_path)
        assert ended.code == 0, ended.err
        assert not ended.err  # no notice of torchrun's, no warning of PyTorch's
    results = [result(tmp_path / f"w{world_size}") for world_size in (1, 2, 3, 4)]
    assert [found["world_size"] for found in results] == [1, 2, 3, 4]
    for name in ("weights_sha256", "val_loss", "val_confusion", "best_epoch"):
        assert len({str(found[name]) for found in results}) == 1, name
    metrics = [
        [
            {name: value for name, value in to_fields(line).items() if name not in MEASURED}
            for line in in_order(RunFolder(tmp_path / f"w{world_size}").read_metrics())
        ]
        for world_size in (1, 2, 3, 4)
    ]
    assert [line["kind"] for line in metrics[0]] == ["epoch", "state", "save"] * 3  # a state's line may come late
    assert metrics[0] == metrics[1] == metrics[2] == metrics[3]


@pytest.mark.parametrize(
    ("fault", "launcher", "title", "where"),
    [
        ("raise", "torchrun", "rank 1 of 3 failed", "in forward, epoch 1, step 5"),
        ("raise", "local", "rank 1 of 3 failed", "in forward, epoch 1, step 5"),
        ("raise", "by hand", "rank 1 of 3 failed", "in forward, epoch 1, step 5"),
        ("KILL", "torchrun", "rank 1 of 3 was killed", "last seen in forward, epoch 1, step 5"),
        ("KILL", "by hand", "rank 1 of 3 was killed", "last seen in forward, epoch 1, step 5"),
        ("exit", "local", "rank 1 of 3 was killed", ""),
        ("STOP", "local", "rank 1 of 3 does not answer", "last seen in forward, epoch 1, step 5"),
        ("loop", "by hand", "rank 1 of 3 does not answer", "last seen in forward, epoch 1, step 5"),
    ],
)
def test_when_one_breaks_all_end_with_its_card(
    colours: Path, tmp_path: Path, fault: str, launcher: str, title: str, where: str
) -> None:
    arguments = ["--run-dir", "run", *faulty(colours, fault, "train.global_batch=6", "train.micro_batch=2", "--quiet")]
    path = {"PYTHONPATH": f"{Path(__file__).parents[2]}{os.pathsep}{colours.parent}{os.pathsep}{colours}"}
    begun = time.monotonic()
    if launcher == "by hand":
        ends = run_ranks(3, train_command(*arguments), tmp_path, path)
        text = "".join(end.err for end in ends)
        assert all(end.code for end in ends)
        assert text.count("──── signs_dist") == 1, text  # one card, not three
    else:
        local = [sys.executable, "-m", "launch.local", "--nproc", "3", "--", *arguments]
        ended = run(torchrun_command(3, *arguments) if launcher == "torchrun" else local, tmp_path, path)
        assert ended.code not in (0, 2)
        text = ended.out + ended.err
        text = text[text.rfind("Root Cause") :] if launcher == "torchrun" else text
    assert time.monotonic() - begun < 60  # imports on a busy machine, 8 s of time-out, 15 s to end
    assert title in text
    assert where in text
    assert "logs/rank1.log" in text
    if fault == "raise":
        assert "ValueError: this model is broken" in text
        assert "faulty.py:23 in forward" in text
    if fault == "loop":
        assert "not in a collective" in text
        assert re.search("rank [02] (waits|waited) in a collective", text)
        assert "in forward" in (tmp_path / "run" / "logs" / "rank1.log").read_text()  # its stack


def test_a_rank_that_never_arrives_is_named(colours: Path, tmp_path: Path) -> None:
    arguments = train_command("--run-dir", "run", *settings(colours, "processes.rendezvous_seconds=10"))
    port = free_port()
    variables = [rank_environment(0, 4, port), rank_environment(2, 4, port), rank_environment(1, 2, free_port())]
    with contextlib.ExitStack() as stack:  # all three wait at the same time
        processes = [stack.enter_context(started(arguments, tmp_path, each)) for each in variables]
        *ends, alone = [finish(process) for process in processes]
    assert [end.code for end in ends] == [3, 3]
    assert "ranks 1, 3 of 4 never arrived: rank 0 on " in ends[0].err
    assert f"waited 10 s at 127.0.0.1:{port}" in ends[0].err
    assert not (tmp_path / "run").exists()
    assert alone.code == 3
    assert "found no rank 0 at 127.0.0.1:" in alone.err


def test_a_loss_that_is_no_number_on_one_rank_stops_all_before_the_weights_move(colours: Path, tmp_path: Path) -> None:
    more = ["train.micro_batch=8", "checkpoint.every_steps=1", "exact=true"]
    arguments = ["--run-dir", "run", *faulty(colours, "nan", *more)]
    path = {"PYTHONPATH": f"{Path(__file__).parents[2]}{os.pathsep}{colours.parent}{os.pathsep}{colours}"}
    ends = run_ranks(2, train_command(*arguments), tmp_path, path)
    assert [end.code for end in ends] == [1, 1]
    newest = tmp_path / "run" / "checkpoints" / "epoch-0001-step-000002.pt"
    assert "is not a finite number at epoch 1, step 3, in micro-batch 1." in ends[0].err
    assert "the last good state is in run/checkpoints/epoch-0001-step-000002.pt" in ends[0].err
    last = json.loads((tmp_path / "run" / "attempts.jsonl").read_text().splitlines()[-1])
    assert last["last_step"] == 2
    saved = torch.load(newest, weights_only=True)
    assert all(tensor.isfinite().all() for tensor in saved["model"].values())
    # One process has no rank 1: the same run goes on from there and ends as one that never broke.
    assert run(train_command(*arguments), tmp_path, path).code == 0
    whole = run(train_command("--run-dir", "whole", *arguments[2:]), tmp_path, path)
    assert whole.code == 0, whole.err
    assert result(tmp_path / "run")["weights_sha256"] == result(tmp_path / "whole")["weights_sha256"]


def test_two_runs_at_once_on_one_machine(colours: Path, tmp_path: Path) -> None:
    local = [sys.executable, "-m", "launch.local", "--nproc", "2", "--"]
    with contextlib.ExitStack() as stack:
        both = [
            stack.enter_context(started([*local, "--run-dir", name, *settings(colours)], tmp_path))
            for name in ("one", "two")
        ]
        assert [finish(process).code for process in both] == [0, 0]


@pytest.mark.parametrize("launcher", ["plain", "torchrun", "local"])
def test_ctrl_c_stops_all_at_the_same_step(colours: Path, tmp_path: Path, launcher: str) -> None:
    arguments = ["--run-dir", "run", *faulty(colours, "slow", "train.epochs=1000", "train.micro_batch=1")]
    arguments += ["train.global_batch=2", "data.num_workers=1"]
    commands = {
        "plain": train_command(*arguments),
        "torchrun": torchrun_command(2, *arguments),
        "local": [sys.executable, "-m", "launch.local", "--nproc", "2", "--", *arguments],
    }
    path = {"PYTHONPATH": f"{Path(__file__).parents[2]}{os.pathsep}{colours.parent}{os.pathsep}{colours}"}
    with started(commands[launcher], tmp_path, path) as process:
        wait_for(tmp_path / "run" / "metrics.jsonl", '"epoch": 2')
        children = find_descendants(process.pid)
        assert children  # loader workers, and with a launcher the processes of the run
        os.killpg(process.pid, signal.SIGINT)
        ended = finish(process, timeout=30)
    assert ended.code == (1 if launcher == "torchrun" else 130), ended.err
    assert ended.seconds < 10
    deadline = time.monotonic() + 10
    while (left := [child for child in children if is_running(child)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    last = json.loads((tmp_path / "run" / "attempts.jsonl").read_text().splitlines()[-1])
    assert last["reason"].startswith("stopped by Ctrl-C after epoch ")
    assert last["last_step"] == saved["cursor"]["epoch"] * 25 + saved["cursor"]["step"]
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.cold
@pytest.mark.parametrize("killed", ["torchrun", "local", "torchrun of local"])
def test_a_launcher_that_is_killed_takes_all_with_it_and_the_run_can_go_on(
    colours: Path, tmp_path: Path, killed: str
) -> None:
    arguments = ["--run-dir", "run", *faulty(colours, "slow", "train.epochs=1000", "train.micro_batch=1")]
    arguments += ["train.global_batch=2", "data.num_workers=1"]
    local = [sys.executable, "-m", "launch.local", "--nproc", "2", "--", *arguments]
    path = {"PYTHONPATH": f"{Path(__file__).parents[2]}{os.pathsep}{colours.parent}{os.pathsep}{colours}"}
    with started(torchrun_command(2, *arguments) if killed == "torchrun" else local, tmp_path, path) as process:
        wait_for(tmp_path / "run" / "metrics.jsonl", '"epoch": 2')
        children = find_descendants(process.pid)
        os.kill(children[0] if killed == "torchrun of local" else process.pid, signal.SIGKILL)
        ended = finish(process, timeout=60)
        deadline = time.monotonic() + 20
        while (left := [child for child in children if is_running(child)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left
    assert ended.code == (137 if killed == "torchrun of local" else -9)
    if killed == "torchrun of local":
        assert "torchrun, which looks after the processes, was ended by signal 9 (SIGKILL)" in ended.err
    last = json.loads((tmp_path / "run" / "attempts.jsonl").read_text().splitlines()[-1])
    assert last["reason"].startswith("stopped by SIGTERM after epoch ")
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    assert last["last_step"] == saved["cursor"]["epoch"] * 25 + saved["cursor"]["step"]


def test_ctrl_c_twice_ends_a_stuck_run_now(colours: Path, tmp_path: Path) -> None:
    arguments = ["--run-dir", "run", *faulty(colours, "loop", "processes.timeout_seconds=100")]
    command = [sys.executable, "-m", "launch.local", "--nproc", "2", "--", *arguments, "train.epochs=100"]
    path = {"PYTHONPATH": f"{Path(__file__).parents[2]}{os.pathsep}{colours.parent}{os.pathsep}{colours}"}
    with started(command, tmp_path, path) as process:
        wait_for(tmp_path / "run" / "logs" / "rank1.log", "no progress for")  # rank 0 waits, rank 1 loops
        children = find_descendants(process.pid)
        process.send_signal(signal.SIGINT)
        time.sleep(1.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        ended = finish(process, timeout=30)
    assert ended.code == 130
    assert ended.seconds < 10
    deadline = time.monotonic() + 10
    while (left := [child for child in children if is_running(child)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_what_the_user_got_wrong_is_said_once(colours: Path, tmp_path: Path) -> None:
    arguments = ["--run-dir", "run", *settings(colours, "train.micro_batch=3")]
    local = run([sys.executable, "-m", "launch.local", "--nproc", "3", "--", *arguments], tmp_path)
    assert local.code == 2
    assert local.err.count("train.global_batch=16 does not divide into micro-batches of 3") == 1
    parallel = run(torchrun_command(2, "--dp", "--run-dir", "run", *settings(colours)), tmp_path)
    assert parallel.code == 1  # torchrun's own, whatever its workers' code is
    report = parallel.err[parallel.err.rfind("Root Cause") :]
    assert "exitcode  : 2" in report
    assert "error: --dp and --device-ids are for one process, and this run has 2." in report
    hand = run_ranks(2, train_command("--run-dir", "run", *settings(colours, "train.epoch=3")), tmp_path)
    assert [end.code for end in hand] == [2, 2]
    assert "Did you mean train.epochs?" in hand[0].err
    assert not (tmp_path / "run").exists()


def test_a_taken_port_is_named(colours: Path, tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = run(
            train_command("--run-dir", "run", *settings(colours)),
            tmp_path,
            rank_environment(0, 2, taken.getsockname()[1]),
        )
    assert ended.code == 2
    assert "is taken by another program. Start with `torchrun --standalone`" in ended.err


def test_data_parallel_without_a_gpu_is_one_process_on_the_cpu(colours: Path, tmp_path: Path) -> None:
    ended = run(train_command("--dp", "--run-dir", "dp", *settings(colours)), tmp_path, {"CUDA_VISIBLE_DEVICES": ""})
    assert ended.code == 0, ended.err
    assert "CPU" in ended.out
    assert result(tmp_path / "dp")["strategy"] == "single"
    ended = run(torchrun_command(2, "--dp", "--run-dir", "no", *settings(colours)), tmp_path)
    assert "--dp" in ended.err
    assert not (tmp_path / "no").exists()


def test_the_readmes_help_is_quick_to_answer() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "launch.local", "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--gpus" in ended.stdout
    assert "torch" not in {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}


@pytest.mark.slow
def test_stored_features_give_one_result_on_2_processes_and_through_a_resume(colours: Path, tmp_path: Path) -> None:
    """In exact mode; the second run computes its features again."""
    cached = ("model.name=signs_net", "model.args={channels: 4}", "model.freeze=backbone", "augment.backend=none")
    always = (*cached, "model.cache_features=true", "exact=true", "schedule.name=constant")

    def arguments(name: str, num_epochs: int) -> list[str]:
        words = ["--run-dir", name, "--accept-change", "train.epochs", "--quiet"]
        return [*words, *settings(colours, *always, f"data.cache=cache-{name}", f"train.epochs={num_epochs}")]

    for command in (
        train_command(*arguments("whole", 2)),
        train_command(*arguments("resumed", 1)),
        torchrun_command(2, *arguments("resumed", 2)),
    ):
        ended = run(command, tmp_path)
        assert ended.code == 0, ended.err
    assert result(tmp_path / "whole")["weights_sha256"] == result(tmp_path / "resumed")["weights_sha256"]
    assert result(tmp_path / "resumed")["world_size"] == 2
