"""The command drill: its flags, and a real drill with twelve kills."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest

from signs_dist.console.command import run_command
from signs_dist.drill import build_parser
from signs_dist.drill import main as drill
from signs_dist.environment.process_table import find_descendants, process_state
from tests.processes import finish, rank_environment, started, wait_for
from tests.sets import write_colour_set


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kills", "0"], "--kills 0: at least 1."),
        (["--world-size", "-1"], "--world-size -1: at least 1."),
        (["--dir", "."], "--dir . exists. Name a new folder"),
        (["--world-size", "9", "train.global_batch=8"], "--world-size 9: train.global_batch=8 has 8 micro-batches"),
        (["log.samples=false"], "and sets them itself: omit them"),
        (["optim.lr=fast"], "optim.lr=fast"),
    ],
)
def test_bad_input(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(drill, arguments) == 2
    assert told in capsys.readouterr().err


def test_of_two_drills_in_one_folder_the_later_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(*arguments: object) -> None:  # the last look at the settings, after the first look at the folder
        (tmp_path / "drill").mkdir()

    monkeypatch.setattr("signs_dist.drill.choose_sizes", choose)
    assert run_command(drill, ["--dir", str(tmp_path / "drill"), "train.micro_batch=8"]) == 2
    assert "drill exists. Name a new folder" in capsys.readouterr().err
    assert list((tmp_path / "drill").iterdir()) == []


def test_a_user_meets_no_flag_of_its_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(build_parser().flags()) == sorted(
        ["-h", "--help", "--config", "--world-size", "--kills", "--runs", "--seed", "--dir", "--json"]
    )
    with pytest.raises(SystemExit) as caught:
        run_command(drill, ["--break-off", "open", "1", "mark", "--run-dir", "run"])
    assert caught.value.code == 2
    assert "unrecognized arguments: --break-off" in capsys.readouterr().err


def test_processes_of_a_launcher_start_no_drill(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in rank_environment(0, 2, 29500).items():
        monkeypatch.setenv(name, value)
    assert run_command(drill, []) == 2
    assert "start it with plain python, without torchrun or srun" in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_wrong_with_the_run_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run_command(drill, ["data.root=nowhere", "train.micro_batch=8"]) == 2
    assert "nowhere" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())  # no folder for runs that never began


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
        assert finish(process, timeout=30).code == 75
    deadline = time.monotonic() + 10
    while (left := [pid for pid in children if process_state(pid) != "gone"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
