"""Running the trials of a sweep, with a program in place of the training."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from signs_dist.environment.process_table import find_descendants
from signs_dist.errors import UserError
from signs_dist.monitoring.signals import StopRequest
from signs_dist.results.sweeps import summarise_sweep
from signs_dist.run_folder.holder import Holder
from signs_dist.searching.definition import Definition
from signs_dist.searching.places import Place
from signs_dist.searching.runner import Outcome, Runner, train_command
from signs_dist.searching.sources import Ending, Planned
from signs_dist.searching.sweep_folder import SweepFolder
from signs_dist.searching.trials import Run, Trial
from tests.processes import wait_until
from tests.searching import trainer

FINISH = ("finish", "0.5")


def make_trials(*seeds: Sequence[str]) -> list[Trial]:
    """Trials with runs of these names."""
    return [
        Trial(number, {"optim.lr": number / 10}, tuple(Run(name, at, (), 8) for at, name in enumerate(names)))
        for number, names in enumerate(seeds)
    ]


class Told(Planned):
    """A source that keeps what it is told."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        super().__init__(trials)
        self.endings: dict[int, Ending] = {}

    def tell(self, trial: Trial, ending: Ending) -> None:
        self.endings[trial.number] = ending


class Sweep:
    """A sweep in a folder, whose runs do as `behaviour` says: name of a run → arguments of the program."""

    def __init__(self, path: Path, trials: Sequence[Trial], behaviour: Mapping[str, Sequence[str]]) -> None:
        self.folder = SweepFolder(path)
        path.mkdir(exist_ok=True)
        self.folder.begin(Definition())
        for trial in trials:
            self.folder.record.note_trial(trial)
        self.before = find_descendants(os.getpid())  # such as the resource tracker of multiprocessing
        self.trials, self.behaviour = trials, dict(behaviour)
        self.said: list[str] = []
        self.stop = StopRequest()
        self.source = Told(trials)
        self.on_line: Callable[[str], None] = lambda line: None

    def run(self, num_places: int = 2, rule: str = "none") -> Outcome:
        self.source = Told(self.trials)
        return self.runner(num_places, rule).run()

    def runner(self, num_places: int = 2, rule: str = "none") -> Runner:
        return Runner(
            self.folder,
            self.source,
            [Place()] * num_places,
            self.command,
            measure="val_accuracy",
            rule=rule,
            compared=self.trials,
            say=self.say,
            stop=self.stop,
        )

    def left_running(self) -> list[int]:
        return [pid for pid in find_descendants(os.getpid()) if pid not in self.before]

    def say(self, line: str) -> None:
        self.said.append(line)
        self.on_line(line)

    def command(self, run: Run) -> list[str]:
        behaviour = self.behaviour.get(run.id, FINISH)
        return [sys.executable, "-S", str(trainer.__file__), str(self.folder.run_path(run.id)), *behaviour]

    def num_starts(self, name: str) -> int:
        file = self.folder.run_path(name) / "starts"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = map(json.loads, (self.folder.path / "sweep.jsonl").read_text().splitlines())
        return [line for line in lines if line["event"] == kind]

    def states(self) -> list[str]:
        return [trial.state for trial in summarise_sweep(self.folder.path).trials]


def test_one_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    behaviour = {"b": ("fail",), "c": ("die",), "d": ("finish", "0.7")}
    sweep = Sweep(tmp_path / "s", make_trials("a", "b", "c", "d"), behaviour)
    assert sweep.run() == Outcome(2, 2, 0)
    assert sweep.states() == ["finished", "failed", "failed", "finished"]
    assert [trial.why for trial in summarise_sweep(sweep.folder.path).trials] == [
        *("", "the loss is not a finite number", "killed by SIGKILL", "")
    ]
    assert {number: asdict(ending) for number, ending in sweep.source.endings.items()} == {
        0: {"state": "finished", "value": 0.5, "epoch": None},
        1: {"state": "failed", "value": 0.5, "epoch": None},
        2: {"state": "failed", "value": 0.5, "epoch": None},
        3: {"state": "finished", "value": 0.7, "epoch": None},
    }
    assert "trial 1  optim.lr=0.1 seed=0: failed: the loss is not a finite number" in sweep.said
    # The same again runs what has failed, and nothing else.
    sweep.behaviour = {}
    assert sweep.run() == Outcome(4, 0, 0)
    assert [sweep.num_starts(name) for name in "abcd"] == [1, 2, 2, 1]
    assert sweep.run() == Outcome(4, 0, 0)
    assert [sweep.num_starts(name) for name in "abcd"] == [1, 2, 2, 1]


def test_a_stop_lets_all_runs_save_and_starts_no_other(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "s", make_trials("a", "b", "c"), dict.fromkeys("abc", ("wait",)))

    def stop_at(line: str) -> None:
        if line.startswith("trial 1"):
            wait_until(lambda: all(sweep.num_starts(name) for name in "ab"))
            # The program handles SIGTERM from the line after that one on.
            wait_until(lambda: all((sweep.folder.run_path(name) / "metrics.jsonl").exists() for name in "ab"))
            sweep.stop.is_set = True

    sweep.on_line = stop_at
    assert sweep.run() == Outcome(0, 0, 2)
    assert sweep.said[-3] == "stopping: 2 runs under way: saving at the next step"
    assert [line["state"] for line in sweep.events("ended")] == ["stopped", "stopped"]
    assert sweep.num_starts("c") == 0
    assert sweep.source.endings == {}  # a study would take a trial up again
    assert sweep.left_running() == []


def test_a_second_ctrl_c_kills_all_runs(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "s", make_trials("a", "b"), dict.fromkeys("ab", ("wait",)))

    def interrupt(line: str) -> None:
        if line.startswith("trial 1"):
            raise KeyboardInterrupt

    sweep.on_line = interrupt
    with pytest.raises(KeyboardInterrupt):
        sweep.run()
    assert sweep.left_running() == []


def test_a_full_disk_stops_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep(tmp_path / "s", make_trials("a", "b"), {"a": ("wait",)})

    def full(*_: object) -> None:
        wait_until(lambda: (sweep.folder.run_path("a") / "metrics.jsonl").exists())
        raise UserError("no space left while writing sweep.jsonl")

    monkeypatch.setattr(sweep.folder.record, "note_end", full)
    with pytest.raises(UserError, match="no space left"):
        sweep.run()
    assert sweep.left_running() == []


def test_a_hopeless_trial_is_stopped_with_all_its_runs_and_can_be_taken_up(tmp_path: Path) -> None:
    trials = make_trials("a", ["b", "c"], "d")
    sweep = Sweep(tmp_path / "s", trials, {"b": ("wait", "0.1"), "a": ("finish", "0.9")})
    assert sweep.run(num_places=1, rule="halving") == Outcome(2, 0, 0)
    assert sweep.states() == ["finished", "pruned", "finished"]
    (pruned,) = sweep.events("pruned")
    assert (pruned["trial"], pruned["epoch"], pruned["why"]) == (
        1,
        4,
        "epoch 4: 10.0 %, 1 of 1 other trials are better",
    )
    assert sweep.num_starts("c") == 0
    assert sweep.source.endings[1] == Ending("pruned", 0.1, 4)
    sweep.folder.record.note_resumed(1)
    sweep.behaviour = {}
    assert sweep.run() == Outcome(4, 0, 0)
    assert sweep.states() == ["finished"] * 3
    assert [sweep.num_starts(name) for name in "abcd"] == [1, 2, 1, 1]


def test_what_another_process_trains_is_waited_for(tmp_path: Path) -> None:
    """As a run of a sweep that was killed, which saves and ends."""
    sweep = Sweep(tmp_path / "s", make_trials("a", "b"), {})
    path = sweep.folder.run_path("a")
    path.mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert other.stdin is not None
        holder = Holder.here(platform.node(), other.pid)
        (path / "lease.json").write_text(json.dumps(asdict(holder)))
        ended = threading.Event()

        def end(line: str) -> None:
            if line.startswith("trial 1") and "finished" in line:
                assert sweep.num_starts("a") == 0
                other.send_signal(signal.SIGKILL)
                other.wait()
                ended.set()

        sweep.on_line = end
        assert sweep.run() == Outcome(2, 0, 0)
    assert ended.is_set()
    assert sweep.said[0] == f"trial 0  optim.lr=0 seed=0: waits for process {other.pid}, which trains it already"


def test_two_trials_with_the_same_settings_are_trained_once(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "s", make_trials("a", "a"), {})
    assert sweep.run() == Outcome(2, 0, 0)
    assert sweep.num_starts("a") == 1


def test_the_command_of_a_run() -> None:
    run = Run("ab", 1, ("optim.lr=0.1", "seed=1"), 8)
    assert train_command("python", Path("base.yaml"), run, Path("s/trials/ab"), ["--quiet"]) == [
        *("python", "-m", "signs_dist.train", "--config", "base.yaml", "optim.lr=0.1", "seed=1"),
        *("--run-dir", "s/trials/ab", "--quiet"),
    ]
    assert "--config" not in train_command("python", None, run, Path("a"), [])
