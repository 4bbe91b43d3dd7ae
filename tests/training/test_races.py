"""Runs that meet in one folder: whatever moment the other one comes at, the folder holds one run."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from signs_dist.checkpointing.store import read_checkpoint
from signs_dist.console.command import run_command
from signs_dist.errors import StoppedError
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.lease import Lease
from signs_dist.train import main as train
from signs_dist.training import earlier_attempt, run
from signs_dist.training.fit import fit
from signs_dist.training.stepper import Stepper
from tests.sets import write_colour_set
from tests.training.parts import SMALL, make_config


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 12, "val": 4, "test": 4})


@pytest.fixture
def command(colours: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The arguments of a run in one folder."""

    def arguments(*more: str) -> list[str]:
        data = [f"data.root={colours}", f"data.cache={colours}/cache"]
        return ["--quiet", "--run-dir", str(tmp_path / "run"), *data, *SMALL, *more]

    return arguments


def before(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, action: Callable[[], None]) -> list[str]:
    """Call `action` once, just before the first call of a function. Returns a list that holds its name then."""
    original, called = getattr(owner, name), []

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if not called:
            called.append(name)
            action()
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, wrapped)
    return called


def require_one_run(folder: Path, *, seed: int, names: Collection[str]) -> None:
    """All files are of the run of that seed."""
    assert f"seed: {seed}\n" in (folder / "config.yaml").read_text()
    result = RunFolder(folder).read_result()
    assert result is not None
    assert result["seed"] == seed
    checkpoints = sorted(folder.glob("checkpoints/*.pt"))
    assert {path.name for path in checkpoints} == set(names)
    contents = [read_checkpoint(path) for path in checkpoints]
    assert {content["config"]["seed"] for content in contents} == {seed}
    lines = RunFolder(folder).read_metrics()
    assert [line.step for line in lines] == sorted(line.step for line in lines)


WHOLE = ("epoch-0001.pt", "epoch-0002.pt", "last.pt", "best.pt")


@pytest.mark.parametrize("name", ["prepare", "_make_run", "_begin"])
def test_a_run_that_comes_while_another_one_prepares_is_refused(
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    codes = []
    called = before(monkeypatch, run, name, lambda: codes.append(run_command(train, command("seed=2"))))
    assert run_command(train, command("seed=1")) == 0
    assert (called, codes) == ([name], [2])
    assert "run is in use by process" in capsys.readouterr().err
    require_one_run(tmp_path / "run", seed=1, names=WHOLE)


def stop_after(monkeypatch: pytest.MonkeyPatch, num_steps: int) -> None:
    """Have the next run stop after so many steps, as at SIGTERM."""
    original = Stepper.steps

    def steps(self: Stepper, *arguments: Any) -> Any:
        for number, step in enumerate(original(self, *arguments), 1):
            if number == num_steps:
                signal.raise_signal(signal.SIGTERM)
            yield step

    monkeypatch.setattr(Stepper, "steps", steps)


@pytest.mark.parametrize("owner", ["lease", "folder"])
@pytest.mark.parametrize(
    ("seed", "is_stopped", "code", "said"),
    [
        (1, False, 0, "finished: "),
        (2, False, 2, "these settings differ from the saved run: seed: 2 → 1. The run is finished after 2 epochs"),
        (1, True, 0, "val accuracy"),
        (2, True, 2, "these settings differ from the saved run: seed: 2 → 1. Restore them"),
    ],
)
def test_a_run_that_comes_just_before_the_lease_is_taken_counts(
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    owner: str,
    seed: int,
    is_stopped: bool,
    code: int,
    said: str,
) -> None:
    """The folder was new when the command began, and holds a run when the command has the lease."""

    def come() -> None:
        with monkeypatch.context() as patch, contextlib.suppress(StoppedError):
            if is_stopped:
                stop_after(patch, 2)
            train(command(f"seed={seed}"))
        capsys.readouterr()

    before(monkeypatch, *((Lease, "acquire") if owner == "lease" else (earlier_attempt, "take_lease")), come)
    assert run_command(train, command("seed=1")) == code
    told = capsys.readouterr()
    assert said in told.out + told.err
    if is_stopped and code == 0:
        starts = [line for line in RunFolder(tmp_path / "run").read_attempts() if type(line).__name__ == "StartLine"]
        assert [line.first_step > 0 for line in starts] == [False, True]  # type: ignore[union-attr]
    elif not is_stopped:
        require_one_run(tmp_path / "run", seed=seed, names=WHOLE)


def test_fit_also_decides_under_the_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, results = make_config(tmp_path), []
    before(
        monkeypatch, earlier_attempt, "take_lease", lambda: results.append(fit(config, tmp_path / "run", quiet=True))
    )
    assert fit(config, tmp_path / "run", quiet=True) == results[0]
    assert len(RunFolder(tmp_path / "run").read_attempts()) == 2


def test_a_folder_that_a_failing_run_removes_is_made_again(
    command: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run made the folder, failed, and removes it between this run's mkdir and its lease."""
    before(monkeypatch, Lease, "acquire", lambda: shutil.rmtree(tmp_path / "run"))
    assert run_command(train, command("seed=1")) == 0
    require_one_run(tmp_path / "run", seed=1, names=WHOLE)


def test_a_run_that_cannot_begin_leaves_no_folder(
    command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in (["model.args={nothing: 1}"], ["data.root=/nowhere"], ["train.global_batch=1000"]):
        assert run_command(train, [*command(), *more]) == 2
        assert run_command(train, [*command(), *more, "--run-dir", str(tmp_path / "deep" / "er" / "run")]) == 2
        assert not (tmp_path / "run").exists()
        assert not (tmp_path / "deep").exists()
    capsys.readouterr()


def test_runs_of_one_second_get_folders_of_their_own(
    command: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unnamed = [word for word in command("train.epochs=1") if word not in ("--run-dir", str(tmp_path / "run"))]
    proposed = tmp_path / "runs" / "default-now"
    monkeypatch.setattr("signs_dist.run_folder.folder.default_run_path", lambda *arguments, **more: proposed)
    # The second one comes when the first has chosen its name.
    before(monkeypatch, earlier_attempt, "make_new_folder", lambda: train(unnamed) and None)
    assert run_command(train, unnamed) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["default-now", "default-now-2"]


def test_checkpoints_that_appear_during_a_run_are_set_aside(
    command: Callable[..., list[str]],
    colours: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As those of a process that woke up after its lease was taken over."""
    other = [str(tmp_path / "other") if word == str(tmp_path / "run") else word for word in command("seed=2")]
    assert run_command(train, [*other, "train.epochs=3"]) == 0
    loud = [word for word in command("seed=1") if word != "--quiet"]

    def come() -> None:
        for path in (tmp_path / "other" / "checkpoints").iterdir():
            shutil.copyfile(path, tmp_path / "run" / "checkpoints" / path.name)

    before(monkeypatch, run.Trainer, "train", come)
    assert run_command(train, loud) == 0
    assert "epoch-0003.pt is a checkpoint that this run did not write" in capsys.readouterr().out
    require_one_run(tmp_path / "run", seed=1, names=WHOLE)
    assert len(list((tmp_path / "run" / "checkpoints").glob("*.pt.foreign"))) == 3


def test_the_lease_is_held_until_the_end_of_a_failed_run_is_written(
    command: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    def look(*arguments: Any, **named: Any) -> None:
        held.append((tmp_path / "run" / "lease.json").exists())

    before(monkeypatch, run, "end_attempt", look)
    assert run_command(train, command("optim.lr=1e30", "train.precision=float32")) == 1
    assert held == [True]
    assert not (tmp_path / "run" / "lease.json").exists()
    end = RunFolder(tmp_path / "run").read_attempts()[-1]
    assert end.reason.startswith("TrainingFailedError: the training loss")  # type: ignore[union-attr]


def test_a_torn_result_is_written_again(
    command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(train, command()) == 0
    folder = RunFolder(tmp_path / "run")
    whole = folder.result.read_text()
    for torn in ("", whole[:100], "\0" * 50):
        folder.result.write_text(torn)
        assert run_command(train, [word for word in command() if word != "--quiet"]) == 0
        said = capsys.readouterr().out
        assert "all 8 steps are done, the result was not written" in said
        assert "images/s" not in said
        again = json.loads(folder.result.read_text())
        assert again["weights_sha256"] == json.loads(whole)["weights_sha256"]


def test_a_finished_run_is_trained_further(
    command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the learning rates of the longer run, as an unfinished run whose epochs are changed."""
    assert run_command(train, command()) == 0
    more = ["train.epochs=3"]
    assert run_command(train, command(*more)) == 2
    assert "train.epochs: 2 → 3. Restore them, choose another --run-dir, or type --accept-change train.epochs" in (
        capsys.readouterr().err
    )
    assert run_command(train, command(*more, "--accept-change", "train.epochs")) == 0
    said = capsys.readouterr().out
    assert "trained further; the earlier result is kept: " in said
    folder = RunFolder(tmp_path / "run")
    result, earlier = folder.read_result(), json.loads((tmp_path / "run" / "result-2-epochs.json").read_text())
    assert result is not None
    assert (result["epochs"], result["steps"], earlier["steps"]) == (3, 12, 8)
    assert (tmp_path / "run" / "model-2-epochs.pt").exists()
    assert run_command(train, command(*more)) == 0
    assert "finished: " in capsys.readouterr().out
    for wrong in (["train.epochs=2", "--accept-change", "train.epochs"], [*more, "seed=5", "--accept-change", "seed"]):
        assert run_command(train, command(*wrong)) == 2
        told = capsys.readouterr().err
        assert "The run is finished after 3 epochs, and they can no longer change it." in told
        assert "--accept-change" not in told


def test_a_run_that_is_trained_further_and_stopped_is_not_finished(
    command: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command(train, command()) == 0
    further = command("train.epochs=4", "--accept-change", "train.epochs")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert run_command(train, further) == 75
    assert not RunFolder(tmp_path / "run").is_finished
    assert not RunFolder(tmp_path / "run").model.exists()
    assert run_command(train, command("train.epochs=4")) == 0
    result = RunFolder(tmp_path / "run").read_result()
    assert result is not None
    assert result["steps"] == 16


def test_fewer_epochs_than_were_trained_are_refused(
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        before(patch, Stepper, "evaluate", lambda: stop_after(patch, 2))  # in the second epoch
        assert run_command(train, command("train.epochs=4")) == 75
    fewer = command("train.epochs=1", "--accept-change", "train.epochs")
    assert run_command(train, fewer) == 2
    assert "train.epochs=1, and the saved run has trained a part of epoch 2. Type train.epochs=2 or more" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("name", ["attempts.jsonl", "lease.json", "metrics.jsonl"])
def test_a_folder_in_place_of_a_file_is_named(
    command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run_command(train, command()) == 0
    (tmp_path / "run" / "result.json").unlink()
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).mkdir()
    assert run_command(train, command()) == 2
    assert name in capsys.readouterr().err
