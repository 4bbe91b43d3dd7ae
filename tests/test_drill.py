"""The drill: what it chooses, that it sees a loss, and a real one with twelve kills."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from signs_dist.config.settings import Config
from signs_dist.console.command import run_command
from signs_dist.drill import MEANS, Drill, choose_sizes, compare, describe_verdicts, drill_settings
from signs_dist.drill import main as drill
from signs_dist.environment.process_table import find_descendants, process_state
from signs_dist.errors import UserError
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.sample_log import SampleLog
from tests.processes import finish, started, wait_for
from tests.sets import write_colour_set


def config(**sections: Any) -> Config:
    return Config.model_validate(sections)


@pytest.mark.parametrize(
    ("sections", "overrides", "world_size", "expected"),
    [
        ({}, [], 2, {"train.micro_batch=8", "train.epochs=2", "train.epoch_steps=20"}),
        ({"train": {"global_batch": 6}}, [], 3, {"train.micro_batch=1"}),
        ({"train": {"micro_batch": 16}}, [], 1, {"exact=true", "log.samples=true"}),
        (
            {"schedule": {"name": "cosine", "warmup_epochs": 3}, "train": {"micro_batch": 16}},
            [],
            2,
            {"schedule.warmup_epochs=1.0"},
        ),
    ],
)
def test_settings_make_a_run_short(sections: Any, overrides: list[str], world_size: int, expected: set[str]) -> None:
    assert expected <= set(drill_settings(config(**sections), overrides, world_size))


def test_what_is_given_by_hand_wins() -> None:
    given = ["train.epochs=7", "checkpoint.every_steps=1"]
    names = [setting.partition("=")[0] for setting in drill_settings(config(train={"epochs": 7}), given, 2)]
    assert not {"train.epochs", "checkpoint.every_steps"} & set(names)


def drilled(**train: Any) -> Config:
    return config(exact=True, log={"samples": True, "every_steps": 1}, train={"global_batch": 8, **train})


@pytest.mark.parametrize(
    ("micro_batch", "world_size", "num_gpus", "expected"),
    [
        (2, 2, 0, [1, 2, 3]),
        (2, 4, 0, [1, 2, 3, 4]),
        (8, 1, 0, [1]),
        (4, 2, 0, [1, 2]),
        (2, 1, 1, [1]),
        (2, 2, 2, [1, 2]),
        (2, 2, 8, [1, 2, 3]),
    ],
)
def test_sizes_are_1_to_one_more(micro_batch: int, world_size: int, num_gpus: int, expected: list[int]) -> None:
    assert choose_sizes(drilled(micro_batch=micro_batch), world_size, num_gpus) == expected


def test_more_processes_than_micro_batches() -> None:
    with pytest.raises(UserError, match=r"has 4 micro-batches of 2\. Type --world-size 4"):
        choose_sizes(drilled(micro_batch=2), 5, 0)
    with pytest.raises(UserError, match="leave these away"):
        choose_sizes(config(), 2, 0)
    with pytest.raises(UserError, match=r"this machine shows 1\. Type --world-size 1, or set CUDA_VISIBLE_DEVICES"):
        choose_sizes(drilled(micro_batch=2), 2, 1)


@pytest.mark.slow
@pytest.mark.parametrize("means", ["KILL in a save", "TERM all"])
def test_an_attempt_that_fails_by_itself_is_no_kill(tmp_path: Path, means: str) -> None:
    # As where a second process finds no GPU: torchrun's exit code does not tell.
    broken = ["data.root=nowhere"]
    doomed = Drill(tmp_path, broken, [1, 2], random.Random(0), is_balanced=False)
    with pytest.raises(UserError, match="nowhere"):
        doomed._attempt(RunFolder(tmp_path / "run"), 1, 1, 2, means, total=10)


def make_run(folder: Path, **changes: Any) -> RunFolder:
    run = RunFolder(folder).create()
    for step in (1, 2):
        SampleLog(run.logs, 0).write(1, step, 0, changes.get("samples", {}).get(step, [step, step + 10]))
        speed = {"images_per_second": hash(folder), "data_wait_share": 0.1}
        run.append(run.metrics, {"kind": "step", "step": step, "train_loss": changes.get("loss", 1.0), **speed})
    run.append(run.metrics, {"kind": "save", "step": 2, "epoch": 1, "stall_seconds": hash(folder)})
    numbers = {"weights_sha256": "a" * 64, "val_loss": 1.0, "val_confusion": [], "best_epoch": 1, "steps": 2}
    run.write_result({**numbers, **changes.get("result", {})})
    for name in changes.get("files", ()):
        (run.checkpoints / name).touch()
    return run


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, None),
        ({"samples": {2: [2, 13]}}, "other samples at 1 steps, first at epoch 1 step 2"),
        ({"samples": {2: [1, 12]}}, "samples repeated at epoch 1 step 2"),
        ({"loss": 1.0000001}, 'other metrics: {"kind": "step", "step": 1, "train_loss": 1.0}'),
        ({"result": {"weights_sha256": "b" * 64}}, f"weights_sha256: {'a' * 64} → {'b' * 64}"),
        ({"files": ["epoch0001-step000000.pt.broken"]}, "checkpoints that could not be read: epoch0001-"),
    ],
)
def test_a_loss_is_seen(tmp_path: Path, changes: Any, told: str | None) -> None:
    verdict = compare(make_run(tmp_path / "whole"), make_run(tmp_path / "killed", **changes), 1, is_balanced=False)
    text = describe_verdicts([verdict], 5)
    if told is None:
        assert verdict.differences == []
        assert "2 steps: samples, metrics, weights equal" in text
        assert text.endswith("PASS: 5 kills, 1 run, nothing lost")
    else:
        assert told in text
        assert text.endswith("FAIL: 5 kills, 1 of 1 run differ")


def test_each_means_comes_before_one_comes_again(tmp_path: Path) -> None:
    import random

    made = Drill(tmp_path, [], [1, 2], random.Random(0), is_balanced=False)
    for _ in range(3):
        assert sorted(made._next_means() for _ in MEANS) == sorted(MEANS)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kills", "0"], "--kills 0: at least 1."),
        (["--world-size", "-1"], "--world-size -1: at least 1."),
        (["--dir", "."], "--dir . exists. Name a new folder"),
        (["--world-size", "9", "train.global_batch=8"], "--world-size 9: train.global_batch=8 has 8 micro-batches"),
        (["log.samples=false"], "leave these away"),
    ],
)
def test_bad_input(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(drill, arguments) == 2
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_wrong_with_the_run_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(drill, ["data.root=nowhere", "train.micro_batch=8", "--dir", "d"]) == 2
    assert "nowhere" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twelve_kills_lose_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    colours = write_colour_set(tmp_path / "colours", counts={"train": 80, "val": 5})  # 240 images
    small = ["data.image_size=16", "model.name=signs_net", "model.args={channels: 4, dropout: 0.3}", "ema.decay=0.9"]
    settings = [f"data.root={colours}", f"data.cache={tmp_path / 'cache'}", *small, "train.global_batch=8"]
    flags = ["--kills", "12", "--runs", "2", "--json", str(tmp_path / "out.json"), "--dir", str(tmp_path / "drill")]
    assert run_command(drill, [*flags, *settings, "train.epochs=3", "train.micro_batch=2"]) == 0
    told = capsys.readouterr().out
    assert "PASS: 12 kills" in told
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["passed"] is True
    assert len(out["kills"]) == 12
    assert len({run["weights_sha256"] for run in out["runs"]}) == 1
    assert {kill["world_size"] for kill in out["kills"]} >= {1, 2, 3}


@pytest.mark.slow
def test_a_drill_that_is_ended_leaves_nothing_running(tmp_path: Path) -> None:
    root = write_colour_set(tmp_path / "colours", counts={"train": 33, "val": 5})
    command = [sys.executable, "-m", "signs_dist.drill", "--dir", "drill", f"data.root={root}", "train.epochs=9999"]
    with started([*command, "train.micro_batch=8", "data.image_size=16"], tmp_path) as process:
        wait_for(tmp_path / "drill" / "whole" / "metrics.jsonl", '"step": 2,')
        children = find_descendants(process.pid)
        assert len(children) >= 3  # torchrun and its two workers
        process.send_signal(signal.SIGTERM)
        assert finish(process, timeout=30).code == 143
    deadline = time.monotonic() + 10
    while (left := [pid for pid in children if process_state(pid) != "gone"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
