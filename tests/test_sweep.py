"""The command sweep: its flags and messages, and real sweeps that are killed, stopped and gone on with."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from signs_dist import sweep as command
from signs_dist import train
from signs_dist.console.command import run_command
from signs_dist.distributed.exactness import arithmetic_kept
from signs_dist.environment.process_table import find_descendants
from signs_dist.results.sweeps import summarise_sweep
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.holder import Holder
from signs_dist.run_folder.records import StartLine, of_kind
from signs_dist.searching import training
from signs_dist.searching.trials import Run
from tests.processes import program_command, run, started, wait_until
from tests.searching import trainer
from tests.searching.slow_network import SLOW
from tests.sets import write_colour_set

RATES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002)
EPOCHS = 6


def type_in(*words: str) -> int:
    """The exit code of the command, run in this process."""
    return run_command(command.main, list(words))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("optim.lr=0.1,0.2", "where? Type --out runs/NAME"),
        ("--out . optim.lr=0.1,0.2", "--out is the working directory."),
        ("--out s optim.rl=0.1,0.2", "unknown key optim.rl. Did you mean optim.lr?"),
        ("--out s optim.lr=0.1,fast", "optim.lr=fast: fast is not legal."),
        ("--out s optim.lr=0.1,0.1", "0.1 is given twice."),
        ("--out s optim.lr=0.1 optim.lr=0.2", "optim.lr is given twice. Type optim.lr= once, with all values."),
        ("--out s optim.lr=0.1", "nothing is searched."),
        ("--out s seed=1,2 seed=3", "seed is given twice"),
        (
            "--out s configs/signs.yaml optim.lr=1,2",
            "a config file is given with its flag: --config",
        ),
        ("--out s --config nowhere.yaml optim.lr=1,2", "--config nowhere.yaml: no such file."),
        ("--out s --file nowhere.yaml", "--file nowhere.yaml: no such file."),
        ("--out s --jobs 0 optim.lr=1,2", "--jobs 0: at least 1."),
        ("--out s --search tpe optim.lr=1,2", "--search tpe needs a number of trials. Add --trials 20"),
        ("--out s --trials 3 optim.lr=1,2", "--trials is for --search random and tpe"),
        ("--out s --best optim.lr=1,2", "Type --show DIR as well."),
        ("--out other optim.lr=1,2", "--out other exists and holds other files: photo.jpg."),
        ("--out file optim.lr=1,2", "--out file is not a folder."),
        ("--show other", "--show other: there is no sweep."),
        ("--show other optim.lr=1,2", "--show trains nothing, and optim.lr=1,2 asks for more."),
        ("--out s optim.lr=1,2 --resume 7", "--resume 7: no such trial. Type the number of a trial (0 to 1)"),
        (
            "--out s --jobs 2 optim.lr=1,2 --slurm",
            "With --slurm, type --slurm … --parallel 2",
        ),
        (
            "--out s --stop-early median optim.lr=1,2 --slurm",
            "--stop-early is for runs that this command starts",
        ),
        ("--out s --search tpe --trials 3 optim.lr=1,2 --slurm", "--slurm submits all runs at once, and --search tpe"),
        ("--out s optim.lr=1,2 --slurm --array seeds=1,2", "--array is not for a sweep"),
        ("--out s optim.lr=1,2 --device cuda", "--device cuda: this machine shows no GPU."),
    ],
)
def test_bad_input(words: str, told: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "other").mkdir()
    (here / "other" / "photo.jpg").touch()
    (here / "file").touch()
    assert type_in(*words.split()) == 2
    assert told in capsys.readouterr().err
    assert not (here / "s" / "trials").exists()


def test_without_optuna_it_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert type_in("--out", "s", "--search", "tpe", "--trials", "3", "optim.lr=0.1,0.2") == 2
    assert "needs optuna, which is not installed. Type: pip install 'signs_dist[sweep]'" in capsys.readouterr().err


def test_a_dry_run_has_the_commands_and_leaves_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert type_in("--out", "s", "optim.lr=0.1,0.03", "seeds=0,1", "train.epochs=2", "--dry-run") == 0
    said = capsys.readouterr().out
    assert said.startswith("s: 2 trials, 4 runs to train\ntrial 0  optim.lr=0.1\n")
    commands = re.findall(r"^    python -m signs_dist.train train.epochs=2 (.*) --run-dir s/trials/\w{12}$", said, re.M)
    assert commands == [f"optim.lr={rate} seed={seed}" for rate in (0.1, 0.03) for seed in (0, 1)]
    assert said.endswith("dry run: nothing was trained\n")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 75, "SIGTERM")])
def test_a_signal_stops_all_runs_and_the_sweep_says_how_to_go_on(
    number: signal.Signals,
    code: int,
    name: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def wait_forever(python: str, config: Path | None, run: Run, path: Path, flags: list[str]) -> list[str]:
        return [python, "-S", str(trainer.__file__), str(path), "wait"]

    def interrupt() -> None:
        wait_until(lambda: len(list(here.glob("s/trials/*/metrics.jsonl"))) == 2)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(training, "train_command", wait_forever)
    thread = threading.Thread(target=interrupt)
    thread.start()
    assert type_in("--out", "s", "optim.lr=0.1,0.2,0.3", "--jobs", "2") == code
    thread.join(60)
    out = capsys.readouterr().out
    assert "stopping: 2 runs under way: saving at the next step\n" in out
    assert out.count(": stopped, and saved\n") == 2
    assert out.endswith(f"stopped by {name}. To go on: python -m signs_dist.sweep --out s --jobs 2\n")
    codes = [json.loads(line).get("code") for line in (here / "s" / "sweep.jsonl").read_text().splitlines()]
    assert codes[-2:] == [75, 75]


def test_under_a_launcher_it_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert type_in("--out", "s", "optim.lr=0.1,0.2") == 2
    assert "a sweep starts its runs itself: type it as it is, not under" in capsys.readouterr().err


def test_its_folder_is_held_against_a_second_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "s").mkdir()
    (here / "s" / "lease.json").write_text(json.dumps(dataclasses.asdict(Holder.here(platform.node(), os.getppid()))))
    assert type_in("--out", "s", "optim.lr=0.1,0.2") == 2
    told = capsys.readouterr().err
    assert f"--out s is in use by another sweep: process {os.getppid()} on {platform.node()}." in told
    assert "--show s" in told


class Real:
    """A real sweep over RATES on two jobs, in exact mode, on small images; the runs of all tests of this file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "runs" / "lr"
        self.slow = folder / "slow"
        write_colour_set(folder / "photos", counts={"train": 12, "val": 6, "test": 2})
        (folder / "base.yaml").write_text(
            "exact: true\ndata: {root: photos, image_size: 16}\n"
            "model: {name: 'tests.searching.slow_network:SlowNetwork'}\n"
            f"train: {{epochs: {EPOCHS}, global_batch: 12, micro_batch: 6}}\nlog: {{every_steps: 1000}}\n"
        )

    def command(self, *words: str, rates: Sequence[float] = RATES) -> list[str]:
        listed = ",".join(map(str, rates))
        sweep = [sys.executable, "-m", "signs_dist.sweep", "--config", "base.yaml", "--out", "runs/lr"]
        return [*sweep, f"optim.lr={listed}", "--by", "val_loss", *words]

    def run(self, *words: str, rates: Sequence[float] = RATES) -> str:
        ended = run(self.command(*words, rates=rates), self.folder, {SLOW: str(self.slow)})
        assert ended.code == 0, ended.out + ended.err
        return ended.out

    def digests(self) -> dict[float, str]:
        """Learning rate → digest of the final weights, of the finished trials."""
        trials = summarise_sweep(self.out).trials
        return {
            trial.chosen["optim.lr"]: trial.runs[0].summary.result["weights_sha256"]
            for trial in trials
            if trial.state == "finished"
        }

    def train_alone(self, rate: float, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """The result of a run that no sweep has trained."""
        monkeypatch.chdir(self.folder)
        path = self.folder / "alone" / str(rate)
        words = ["--config", "base.yaml", f"optim.lr={rate}", "--run-dir", str(path), "--quiet"]
        with arithmetic_kept():
            assert run_command(train.main, words) == 0
        result: dict[str, Any] = json.loads((path / "result.json").read_text())
        return result


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Real:
    """A sweep of 6 trials on 2 jobs, killed at a random time and repeated."""
    real = Real(tmp_path_factory.mktemp("sweep"))
    seconds = random.SystemRandom().uniform(0.5, 8)
    print(f"killed after {seconds:.2f} s")
    with started(real.command("--jobs", "2"), real.folder) as process:
        time.sleep(seconds)
        below = find_descendants(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        # What the sweep has started ends by itself. The repeated one waits for it, so this test does not.
        real.run("--jobs", "2")
        wait_until(lambda: not any(_is_training(pid) for pid in below))
    return real


def _is_training(pid: int) -> bool:
    try:
        return b"signs_dist.train" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.slow
def test_a_sweep_that_is_killed_and_repeated_trains_each_run_once(
    killed: Real, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = summarise_sweep(killed.out)
    # The first is the one that most kills hit.
    alone = {rate: killed.train_alone(rate, monkeypatch) for rate in RATES[:1]}
    found = killed.digests()
    assert {rate: found[rate] for rate in alone} == {rate: each["weights_sha256"] for rate, each in alone.items()}
    assert [trial.mean for trial in summary.trials[:1]] == pytest.approx([each["val_loss"] for each in alone.values()])
    assert [trial.state for trial in summary.trials] == ["finished"] * 6
    for trial in summary.trials:
        lines = RunFolder(trial.runs[0].summary.path).read_metrics()
        assert [line.epoch for line in lines if type(line).__name__ == "EpochLine"] == list(range(1, EPOCHS + 1))
    ended = [json.loads(line) for line in (killed.out / "sweep.jsonl").read_text().splitlines()]
    finished = [line["run"] for line in ended if line["event"] == "ended" and line["state"] == "finished"]
    assert len(finished) == len(set(finished)) <= 6
    # Repeated again, it trains nothing, and shows the same table.
    out = killed.run("--jobs", "2")
    assert "started" not in out
    first, *_ = (line.split() for line in out.splitlines() if line.startswith("0 "))
    assert first[:2] == ["0", "0.1"]
    shown = run([sys.executable, "-m", "signs_dist.sweep", "--show", "runs/lr"], killed.folder).out
    assert shown.strip() in out


TPE_PROGRAM = """\
import sys
from pathlib import Path
from signs_dist import sweep
from signs_dist.console.command import run_command
from signs_dist.searching import training
from tests.searching import trainer

def train_command(python, config, run, path, flags):
    return [python, "-S", trainer.__file__, str(path), "wait" if Path("slow").exists() else "finish"]

training.train_command = train_command
sys.exit(run_command(sweep.main))
"""
"""The command, with a moment in place of each training; or one that does not end, while there is a file `slow`."""


@pytest.mark.slow
def test_a_tpe_search_that_is_killed_takes_up_its_running_trials(here: Path) -> None:
    pytest.importorskip("optuna")
    search = ["--search", "tpe", "--trials", "4", "optim.lr=0.1,0.05,0.02,0.01", "optim.momentum=0.9,0.8"]
    command = program_command(here, TPE_PROGRAM, "--out", "s", "--jobs", "2", *search)
    (here / "slow").touch()
    with started(command, here) as process:
        wait_until(lambda: len(list(here.glob("s/trials/*/metrics.jsonl"))) == 2)
        below = find_descendants(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))
    (here / "slow").unlink()
    before = summarise_sweep(here / "s").trials
    for _ in range(2):  # the second time there is nothing to do
        ended = run(command, here)
        assert ended.code == 0, ended.out + ended.err
    trials = summarise_sweep(here / "s").trials
    assert [trial.chosen for trial in trials[:2]] == [trial.chosen for trial in before]
    assert [trial.state for trial in trials] == ["finished"] * 4
    starts = {path.parent.name: len(path.read_text().splitlines()) for path in here.glob("s/trials/*/starts")}
    again = {trial.runs[0].id for trial in before}
    assert starts == {trial.runs[0].id: 2 if trial.runs[0].id in again else 1 for trial in trials}
    study = optuna_study(here / "s" / "study.db")
    assert study == ["COMPLETE"] * 4


def optuna_study(path: Path) -> list[str]:
    """The states of the trials of a study."""
    import optuna

    (study,) = optuna.get_all_study_summaries(f"sqlite:///{path}")
    return [
        trial.state.name for trial in optuna.load_study(study_name=study.study_name, storage=f"sqlite:///{path}").trials
    ]


@pytest.mark.slow
def test_a_hopeless_trial_is_stopped_and_taken_up_again_to_the_same_weights(
    killed: Real, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = (*RATES, 1e-6)
    killed.slow.touch()
    out = killed.run("--stop-early", "halving", rates=rates)
    assert re.search(r"trial 6  optim.lr=1e-06: stopped early: epoch 1: [0-9.]+, 6 of 6 other trials are better", out)
    assert re.search(r"^6 +1e-06 +\([0-9.]+\) +-? *0/1 +pruned +epoch 1", out, re.M), out
    assert "started" not in killed.run("--stop-early", "halving", rates=rates)
    killed.slow.unlink()
    sweep = [sys.executable, "-m", "signs_dist.sweep", "--out", "runs/lr", "--resume", "6"]
    ended = run(sweep, killed.folder)
    assert ended.code == 0, ended.out + ended.err
    assert killed.digests()[1e-6] == killed.train_alone(1e-6, monkeypatch)["weights_sha256"]
    path = killed.out / "trials" / summarise_sweep(killed.out).trials[6].runs[0].id
    assert len(of_kind(RunFolder(path).read_attempts(), StartLine)) == 2


@pytest.mark.slow
def test_the_best_trial_can_be_trained_again(killed: Real) -> None:
    show = [sys.executable, "-m", "signs_dist.sweep", "--show", "runs/lr", "--best"]
    out = run(show, killed.folder).out
    assert re.match(r"trial \d: val_loss 0\.\d{4}, the best of \d\n  optim.lr = 0\.\d+\n", out)
    again = re.search(r"to train it again    python -m signs_dist.train (--config \S+ --run-dir runs/lr-best)", out)
    assert again is not None
    assert (killed.folder / again[1].split()[1]).is_file()
    best: dict[str, Any] = json.loads(run([*show, "--json"], killed.folder).out)
    assert best["state"] == "finished"
    assert best["chosen"]["optim.lr"] in RATES
