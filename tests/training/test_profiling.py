"""Tracing steps of a run: which steps, what is written and said, and that the result stays the same."""

from __future__ import annotations

import gzip
import json
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType
from torch.profiler import profile

from signs_dist.console.command import run_command
from signs_dist.distributed.exactness import arithmetic_kept
from signs_dist.errors import EXIT_USAGE, StoppedError
from signs_dist.train import main as train
from signs_dist.training import profiling
from signs_dist.training.profiling import (
    Operation,
    StepProfiler,
    count_allowed,
    describe_trace,
    most_expensive,
    operation_lines,
    read_operations,
    start_profiler,
)
from signs_dist.training.trainer import Trainer
from tests.training.parts import Made, make_config, make_process, make_trainer, shown

OPERATIONS = [
    Operation("aten::addmm", 0.2, 10),
    Operation("aten::convolution_backward", 0.5, 20),
    Operation("own", 0.1, 5),
    Operation("b", 0.05, 1),
    Operation("a", 0.05, 1),
    Operation("least", 0.01, 1),
    Operation("none", 0.0, 3),
]


def test_the_five_most_expensive_are_listed_with_their_share() -> None:
    names = [operation.name for operation in most_expensive(OPERATIONS)]
    assert names == ["aten::convolution_backward", "aten::addmm", "own", "a", "b"]
    assert operation_lines(OPERATIONS, num_steps=5, seconds=1.0)[:3] == [
        " 50.0 %  100.00 ms a step  4 calls  aten::convolution_backward  convolutions, backward",
        " 20.0 %  40.00 ms a step   2 calls  aten::addmm                 linear layers, forward",
        " 10.0 %  20.00 ms a step   1 calls  own",
    ]


def test_without_an_operation_there_is_no_line() -> None:
    assert operation_lines([Operation("none", 0.0, 3)], num_steps=5, seconds=1.0) == []


def test_on_a_gpu_the_time_of_a_kernel_counts_once_for_its_operation() -> None:
    rows = [("aten::mm", DeviceType.CPU), ("ampere_sgemm_128x64", DeviceType.CUDA)]
    averages = [
        SimpleNamespace(key=name, device_type=place, self_cpu_time_total=7.0, self_device_time_total=5e5, count=2)
        for name, place in rows
    ]
    profiler: Any = SimpleNamespace(key_averages=lambda: averages)
    assert read_operations(profiler, on_gpu=True) == [Operation("aten::mm", 0.5, 2)]


def test_on_a_gpu_the_trace_says_whether_a_step_is_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = make_process(quiet=False)
    profiler = StepProfiler(1, tmp_path, process, lambda profiler, path: path.touch(), lambda: "one CUDA graph")
    monkeypatch.setattr(profiler, "_on_gpu", True)
    monkeypatch.setattr(profiler, "_profiler", start_profiler(on_gpu=False))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(profiling, "read_operations", lambda profiler, on_gpu: [])
    profiler._num_traced = profiler._last_step = profiler._allowed = 1
    profiler.close()
    assert "  a step is one CUDA graph\n" in shown(process)


@pytest.mark.parametrize("is_failed", [True, False])
def test_after_an_error_on_a_gpu_nothing_waits_for_its_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_failed: bool
) -> None:
    stopped: list[bool] = []
    profiler = StepProfiler(3, tmp_path, make_process())
    monkeypatch.setattr(profiler, "_on_gpu", True)
    monkeypatch.setattr(profiler, "_profiler", profile())
    monkeypatch.setattr(profiler, "_stop", lambda: stopped.append(True))
    profiler.close(is_failed=is_failed)
    assert stopped == [True] * (not is_failed)


@pytest.mark.parametrize(
    ("wanted", "events_per_step", "allowed"), [(10, 100, 10), (10, 250, 4), (10, 5000, 1), (3, 0, 3)]
)
def test_a_trace_is_bounded_by_its_events(wanted: int, events_per_step: int, allowed: int) -> None:
    assert count_allowed(wanted, events_per_step, most_events=1000) == allowed


@pytest.mark.parametrize(
    ("wanted", "traced", "allowed", "told"),
    [
        (1, 1, 1, "traced 1 step"),
        (7, 7, 7, "traced 7 steps"),
        (7, 2, 7, "traced 2 steps of 7: the run has no more"),
        (7, 5, 5, "traced 5 steps of 7: a step has 100,000 events, and a trace at most 500,000"),
    ],
)
def test_what_is_told_of_a_trace(wanted: int, traced: int, allowed: int, told: str) -> None:
    assert describe_trace(wanted, traced, allowed, 100_000) == told


def profiled(folder: Path, num_steps: int, *settings: str) -> Made:
    """A trainer that traces: 8 steps over 2 epochs."""
    made = make_trainer(folder, *settings, process=make_process(quiet=False))
    profiler = StepProfiler(num_steps, made.folder.path, made.process)
    parts = (made.stepper, made.run_state, made.saver, made.process, made.folder)
    made.trainer = Trainer(*parts, stop=made.stop, profiler=profiler)
    return made


def trained(made: Made) -> dict[str, Any]:
    return made.trainer.train(time.perf_counter())


def traces(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "run" / "profile").glob("*"))


@pytest.mark.parametrize("settings", [(), ("exact=true", "train.micro_batch=4")])
def test_a_traced_run_has_the_weights_of_one_without(tmp_path: Path, settings: tuple[str, ...]) -> None:
    with arithmetic_kept():
        plain = trained(make_trainer(tmp_path, *settings, run="plain"))
        assert trained(profiled(tmp_path, 3, *settings))["weights_sha256"] == plain["weights_sha256"]
    assert traces(tmp_path) == ["rank-0-steps-5-to-7.json.gz"]


def test_steps_after_the_first_four_are_traced(tmp_path: Path) -> None:
    # Large layers: in a small network a wait for a core counts as much as an operation.
    made = profiled(tmp_path, 3, "model.args={hidden: [1024, 1024]}")
    trained(made)
    assert traces(tmp_path) == ["rank-0-steps-5-to-7.json.gz"]
    path = tmp_path / "run/profile/rank-0-steps-5-to-7.json.gz"
    names = [event.get("name") for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]]
    assert names.count("aten::cross_entropy_loss") == 3 + 1  # of three steps, and of the evaluation before them
    lines = shown(made.process).splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("profile: traced 3 steps, "))
    assert [line[:2] for line in lines[place + 1 : place + 7]] == ["  "] * 6
    assert "linear layers, forward" in "\n".join(lines[place + 1 : place + 6])
    assert lines[place + 6].startswith(f"  the trace is in {path} (0.")


def test_a_run_with_fewer_steps_says_so(tmp_path: Path) -> None:
    made = profiled(tmp_path, 100)
    trained(made)
    assert traces(tmp_path) == ["rank-0-steps-5-to-8.json.gz"]
    assert "profile: traced 4 steps of 100: the run has no more" in shown(made.process)


@pytest.mark.parametrize(("num_epochs", "num_steps"), [(1, 4), (1, 2)])
def test_a_run_that_ends_before_the_first_traced_step_says_so(tmp_path: Path, num_epochs: int, num_steps: int) -> None:
    made = profiled(tmp_path, 5, f"train.epochs={num_epochs}", f"train.epoch_steps={num_steps}")
    trained(made)
    assert traces(tmp_path) == []
    told = f"--profile 5: no step was traced. This attempt had {num_steps}, and tracing begins after 4\n"
    assert told in shown(made.process)


def test_a_stop_leaves_no_trace_and_no_profiler(tmp_path: Path) -> None:
    made = profiled(tmp_path, 100)
    made.stop.is_set, made.stop.signal_number = True, signal.SIGTERM
    with pytest.raises(StoppedError):
        trained(made)
    assert traces(tmp_path) == []
    assert "traced" not in shown(made.process)
    profile().start()  # refused while another one traces


def test_a_large_step_is_traced_a_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "count_allowed", lambda wanted, events: 2 if events > 20 else wanted)
    made = profiled(tmp_path, 4)
    trained(made)
    assert traces(tmp_path) == ["rank-0-steps-5-to-6.json.gz"]
    assert "traced 2 steps of 4: a step has " in shown(made.process)


def test_a_trace_that_cannot_be_written_ends_no_training(tmp_path: Path) -> None:
    made = profiled(tmp_path, 2)
    (made.folder.path / "profile").write_text("a file")
    assert trained(made)["finished"]
    assert "warning: the trace could not be written to " in shown(made.process)


def test_each_process_writes_a_file_of_its_own(tmp_path: Path) -> None:
    written: list[Path] = []

    def write(profiler: profile, path: Path) -> None:
        path.write_bytes(b"trace")
        written.append(path)

    profiler = StepProfiler(1, tmp_path, make_process(rank=3), write)
    for step in range(101, 107):
        profiler.after_step(step)
    assert [path.name for path in (tmp_path / "profile").iterdir()] == ["rank-3-steps-105-to-105.json.gz"]
    assert len(written) == 1


@pytest.mark.parametrize("number", ["0", "-3", "201", "many", "1.5"])
def test_a_number_of_steps_that_is_not_legal_is_refused(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = run_command(train, [f"--profile={number}"])
    except SystemExit as error:
        code = error.code  # type: ignore[assignment]
    assert code == EXIT_USAGE
    assert "200" in capsys.readouterr().err


def test_the_command_traces_and_a_finished_run_says_that_it_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(tmp_path)
    settings = [f"data.root={config.data.root}", f"data.cache={config.data.cache}", "data.image_size=16"]
    settings += ["model.name=mlp", "train.epochs=2", "train.global_batch=8", "data.num_workers=0"]
    command = ["--quiet", "--run-dir", str(tmp_path / "run"), "--profile", "2", *settings]
    assert run_command(train, command) == 0
    captured = capsys.readouterr()
    assert "profile: traced 2 steps" in captured.out
    assert captured.err == ""
    assert traces(tmp_path) == ["rank-0-steps-5-to-6.json.gz"]
    assert run_command(train, command) == 0
    assert "--profile 2: no step is left to trace; name another --run-dir" in capsys.readouterr().out
