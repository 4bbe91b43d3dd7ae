"""The whole job in a script: what it returns, what it raises, and that it leaves the program as it was."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from signs_dist.checkpointing.state_digest import state_sha256
from signs_dist.checkpointing.store import CheckpointStore
from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.errors import SaveError, StoppedError, TrainingFailedError, UserError
from signs_dist.run_folder.chain import check_chain
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import StateLine, of_kind
from signs_dist.train import main as train
from signs_dist.training.fit import fit
from signs_dist.training.trainer import Trainer
from tests.training.parts import make_config

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def children() -> set[str]:
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {child for task in tasks for child in task.read_text().split()}


def look() -> dict[str, Any]:
    """What a program may rely on."""
    return {
        "handlers": [signal.getsignal(number) for number in SIGNALS],
        "environment": dict(os.environ),
        "random": torch.get_rng_state().tolist(),
        "threads of torch": torch.get_num_threads(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "filled": torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "wakeup": _wakeup(),
    }


def _wakeup() -> int:
    descriptor = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor)
    return descriptor


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Fail unless the program is after the block as it was before."""
    before, threads, processes = look(), set(threading.enumerate()), children()
    yield
    deadline = time.monotonic() + 5
    while (children() - processes or set(threading.enumerate()) - threads) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) - threads == set()
    assert children() - processes == set()
    assert look() == before


def send(monkeypatch: pytest.MonkeyPatch, number: signal.Signals, *, at_step: int) -> None:
    """Send this process a signal when so many steps are done."""
    original = Trainer._after_step

    def after_step(self: Trainer, sums: Any) -> None:
        if self._run_state.steps_done == at_step:
            os.kill(os.getpid(), number)
        original(self, sums)

    monkeypatch.setattr(Trainer, "_after_step", after_step)


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(3)
    torch.set_num_threads(2)
    with as_before():
        result = fit(make_config(tmp_path), tmp_path / "run")
    torch.set_num_threads(1)
    run = tmp_path / "run"
    assert result == {**json.loads((run / "result.json").read_text()), "run_dir": run}
    assert result["weights_sha256"] == weights_sha256(torch.load(run / "model.pt", weights_only=True))
    assert json.loads((run / "manifest.json").read_text())["command"] == ["signs_dist.fit"]
    assert f"everything is in {run}" in capsys.readouterr().out


def test_it_trains_what_the_command_trains(tmp_path: Path) -> None:
    result = fit(make_config(tmp_path), tmp_path / "run", quiet=True)
    assert train(["--config", str(tmp_path / "run" / "config.yaml"), "--run-dir", str(tmp_path / "other")]) == 0
    assert json.loads((tmp_path / "other" / "result.json").read_text())["weights_sha256"] == result["weights_sha256"]


def test_a_finished_run_returns_its_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config(tmp_path)
    first = fit(config, tmp_path / "run", quiet=True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    capsys.readouterr()
    assert fit(config, str(tmp_path / "run")) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    assert capsys.readouterr().out == ""


def test_a_run_of_other_settings_is_refused(tmp_path: Path) -> None:
    fit(make_config(tmp_path), tmp_path / "run", quiet=True)
    other = make_config(tmp_path, "optim.lr=0.5")
    with as_before(), pytest.raises(UserError, match=r"optim\.lr: 0\.1 → 0\.5"):
        fit(other, tmp_path / "run")
    for accepted in ("optim.lr", ["optim.lr"], ("optim",)):  # nothing is left to train with it
        with pytest.raises(UserError, match=r"0\.5\. The run is finished after 2 epochs, and they can no longer"):
            fit(other, tmp_path / "run", accept_change=accepted)


def test_a_name_that_is_no_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'accept_change="optim\.speed": no such setting'):
        fit(make_config(tmp_path), tmp_path / "run", accept_change=["optim.speed"])


def test_without_a_name_a_new_folder_below_runs_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(tmp_path, "train.epochs=1")
    monkeypatch.chdir(tmp_path)
    first, second = (fit(config, quiet=True)["run_dir"] for _ in range(2))
    assert first != second
    assert all(path.parent == Path("runs") and path.name.startswith("fit-") for path in (first, second))
    assert (tmp_path / first / "result.json").exists()


@pytest.mark.parametrize(
    ("number", "reason", "code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 75)]
)
def test_a_signal_stops_it_and_the_same_call_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, reason: str, code: int
) -> None:
    config = make_config(tmp_path)
    whole = fit(config, tmp_path / "whole", quiet=True)
    send(monkeypatch, number, at_step=5)
    with as_before(), pytest.raises(StoppedError, match=f"stopped by {reason} after epoch 2, step 2 of 4") as stopped:
        fit(config, tmp_path / "run", quiet=True)
    assert stopped.value.exit_code == code
    monkeypatch.undo()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with as_before():
        result = fit(config, tmp_path / "run", quiet=True)
    assert result["weights_sha256"] == whole["weights_sha256"]
    events = [json.loads(line) for line in (tmp_path / "run" / "attempts.jsonl").read_text().splitlines()]
    assert [(line["event"], line.get("reason"), line.get("first_step")) for line in events] == [
        ("start", None, 0),
        ("end", f"stopped by {reason} after epoch 2, step 2 of 4", None),
        ("start", None, 6),
        ("end", "finished", None),
    ]
    manifest_of_checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["run"]
    assert (manifest_of_checkpoint["attempts"], manifest_of_checkpoint["world_sizes"]) == (2, [1, 1])


def raise_at(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(Trainer, "_after_step", fail)


def test_errors_are_raised_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ZeroDivisionError("a bug")
    raise_at(monkeypatch, error)
    with as_before(), pytest.raises(ZeroDivisionError) as raised:
        fit(make_config(tmp_path), tmp_path / "run", quiet=True)
    assert raised.value is error
    assert capsys.readouterr().err == ""
    end = json.loads((tmp_path / "run" / "attempts.jsonl").read_text().splitlines()[-1])
    assert end["reason"] == "ZeroDivisionError: a bug"
    assert "a bug" in (tmp_path / "run" / "logs" / "rank0.log").read_text()
    assert not (tmp_path / "run" / "lease.json").exists()


def test_a_loss_that_is_not_finite_is_raised(tmp_path: Path) -> None:
    config = make_config(tmp_path, "optim.lr=1e30", "train.precision=float32")
    with as_before(), pytest.raises(TrainingFailedError, match="not a finite number at epoch 1, step 2"):
        fit(config, tmp_path / "run", quiet=True)


def test_a_save_that_fails_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> int:
        raise SaveError("no space left")

    monkeypatch.setattr(CheckpointStore, "write", full)
    with as_before(), pytest.raises(SaveError, match="no space left"):
        fit(make_config(tmp_path), tmp_path / "run", quiet=True)


def test_wrong_data_leave_no_folder(tmp_path: Path) -> None:
    with as_before(), pytest.raises(UserError, match="/nowhere"):
        fit(make_config(tmp_path, "data.root=/nowhere"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_exact_mode_leaves_torch_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    raise_after = Trainer.train

    def spy(self: Trainer, *arguments: Any, **named: Any) -> dict[str, Any]:
        seen.append(torch.get_deterministic_debug_mode())
        return raise_after(self, *arguments, **named)

    monkeypatch.setattr(Trainer, "train", spy)
    with as_before():
        result = fit(make_config(tmp_path, "exact=true", "train.micro_batch=4"), tmp_path / "run", quiet=True)
    assert result["exact"]
    assert seen == [2]


def test_a_program_that_had_chosen_deterministic_kernels_keeps_them(tmp_path: Path) -> None:
    torch.set_deterministic_debug_mode("warn")
    try:
        with as_before():
            fit(make_config(tmp_path, "exact=true", "train.micro_batch=4"), tmp_path / "run", quiet=True)
        assert torch.get_deterministic_debug_mode() == 1
    finally:
        torch.set_deterministic_debug_mode("default")


def test_workers_end_though_the_error_is_kept(tmp_path: Path) -> None:
    settings = ("data.num_workers=1", "data.storage=files", "optim.lr=1e30", "train.precision=float32")
    with as_before(), pytest.raises(TrainingFailedError) as kept:
        fit(make_config(tmp_path, *settings), tmp_path / "run", quiet=True)
    assert kept.value.__traceback__ is not None


def test_a_run_in_another_thread(tmp_path: Path) -> None:
    results: list[dict[str, Any]] = []
    config = make_config(tmp_path)
    with as_before():
        thread = threading.Thread(target=lambda: results.append(fit(config, tmp_path / "run", quiet=True)))
        thread.start()
        thread.join()
    assert results[0]["steps"] == 8


def test_ten_runs_leave_nothing(tmp_path: Path) -> None:
    config = make_config(tmp_path, "train.epochs=1", "train.epoch_steps=1", "ema.decay=0.9")
    fit(config, tmp_path / "first", quiet=True)
    gc.collect()
    with as_before():
        sizes = [_live_bytes() for number in range(10) if fit(config, tmp_path / f"run{number}", quiet=True)]
    # A kept model would be 0.4 MB each time.
    assert sizes[-1] - sizes[0] < 50_000, sizes


def _live_bytes() -> int:
    gc.collect()
    tensors = {value.untyped_storage().data_ptr(): value for value in gc.get_objects() if _is_tensor(value)}
    return sum(value.untyped_storage().nbytes() for value in tensors.values())


def _is_tensor(value: object) -> bool:
    return type(value) in (torch.Tensor, torch.nn.Parameter)


@pytest.mark.parametrize(("module", "num_lines"), [("ipykernel.iostream", 25), ("somewhere", 10)])
def test_in_a_notebook_every_epoch_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, num_lines: int
) -> None:
    # In a notebook rich writes into the cell, whatever file it was given, unless it is told not to.
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr("builtins.get_ipython", lambda: shell, raising=False)
    written: list[str] = []
    stream = type("OutStream", (io.StringIO,), {"__module__": module, "write": lambda self, text: written.append(text)})
    monkeypatch.setattr(sys, "stdout", stream())
    fit(make_config(tmp_path, "train.epochs=25", "train.epoch_steps=1", "evaluate.every_epochs=25"), tmp_path / "run")
    lines = "".join(written).splitlines()
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == len(set(epochs)) == num_lines
    assert not any("\x1b" in line or "\r" in line for line in lines)
    log = (tmp_path / "run" / "logs" / "rank0.log").read_text()
    assert log.count("  epoch ") == 25


def test_a_cuda_generator_that_was_not_used_begins_as_it_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(11)
    seeds: list[int] = []
    answers = [False, True]  # the run was the first to use CUDA
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: answers.pop(0) if len(answers) > 1 else answers[0])
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    with contextlib.suppress(UserError):
        fit(make_config(tmp_path, "data.root=/nowhere"), tmp_path / "run")
    assert seeds[-1] == 11


def test_an_exact_run_has_a_chain_and_a_fast_one_has_none(tmp_path: Path) -> None:
    exact = ("exact=true", "train.micro_batch=4", "train.precision=float32", "checkpoint.every_steps=3")
    fit(make_config(tmp_path, *exact), tmp_path / "exact", quiet=True)
    fit(make_config(tmp_path), tmp_path / "fast", quiet=True)
    states = of_kind(RunFolder(tmp_path / "exact").read_metrics(), StateLine)
    assert [line.step for line in states] == [3, 4, 6, 8]
    subject = json.loads((tmp_path / "exact" / "manifest.json").read_text())["subject"]
    assert {line.subject for line in states} == {subject["sha256"]}
    newest = CheckpointStore(tmp_path / "exact" / "checkpoints").load()
    assert newest is not None
    assert newest["run"]["subject"] == subject
    assert states[-1].state == state_sha256(newest)
    assert check_chain(RunFolder(tmp_path / "exact").read_metrics()) == []
    assert of_kind(RunFolder(tmp_path / "fast").read_metrics(), StateLine) == []
    assert "subject" not in json.loads((tmp_path / "fast" / "manifest.json").read_text())
