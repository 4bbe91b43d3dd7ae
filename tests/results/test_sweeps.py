"""A sweep's folder, read back as values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from signs_dist.results.sweeps import (
    best_value,
    is_sweep,
    read_curve,
    read_record,
    state_of_trial,
    summarise_sweep,
)
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import StartLine
from tests.results.test_summary import end, epoch, make_run

START = StartLine(attempt=1, time="2026-01-31T12:00:00+00:00", first_step=0, world_size=1)


def write(path: Path, *lines: dict[str, Any]) -> None:
    header = {"event": "sweep", "version": 1, "search": "grid", "by": "val_accuracy", "names": ["optim.lr"]}
    header |= {"seeds": [0, 1], "num_trials": 4}
    (path / "sweep.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in (header, *lines)))
    (path / "sweep.yaml").touch()


def trial(number: int, rate: float, *names: str) -> dict[str, Any]:
    runs = [{"id": name, "seed": seed} for seed, name in enumerate(names)]
    return {"event": "trial", "trial": number, "settings": {"optim.lr": rate}, "runs": runs}


def finished(path: Path, accuracy: float, **result: Any) -> None:
    make_run(
        path, START, epoch(1, 0.2), epoch(2, accuracy), epoch(3, accuracy - 0.1), result={"finished": True} | result
    )


def test_a_trial_is_the_mean_over_its_seeds_and_the_best_comes_first(tmp_path: Path) -> None:
    write(tmp_path, trial(0, 0.1, "a", "b"), trial(1, 0.3, "c", "d"), trial(2, 3.0, "e", "f"), trial(3, 9.0, "g", "h"))
    for name, accuracy in {"a": 0.6, "b": 0.8, "c": 0.9, "d": 0.7, "e": 0.99}.items():
        finished(tmp_path / "trials" / name, accuracy, test_accuracy=accuracy - 0.1)
    sweep = summarise_sweep(tmp_path)
    assert [(each.number, each.state, each.num_finished) for each in sweep.ranked] == [
        *((1, "finished", 2), (0, "finished", 2), (2, "not begun", 1), (3, "not begun", 0))
    ]
    best = sweep.best
    assert best is not None
    assert best.chosen == {"optim.lr": 0.3}
    assert (best.mean, best.sd, best.test_accuracy) == pytest.approx((0.8, 0.02**0.5, 0.7))
    assert sweep.trials[2].mean == 0.99  # of one run: shown, and not the best
    assert (sweep.num_trials, sweep.seeds, sweep.names) == (4, (0, 1), ("optim.lr",))
    by_loss = summarise_sweep(tmp_path, "val_loss")
    assert by_loss.is_less_better
    assert [each.number for each in by_loss.ranked] == [1, 0, 2, 3]
    assert by_loss.trials[0].mean == pytest.approx(0.3)


def test_a_failed_run_is_shown_with_its_reason(tmp_path: Path) -> None:
    ended = {"event": "ended", "trial": 0, "run": "a", "state": "failed", "why": "no folder /nowhere"}
    write(tmp_path, trial(0, 0.1, "a", "b"), trial(1, 0.3, "c", "d"), ended)
    make_run(tmp_path / "trials" / "c", START)  # killed
    sweep = summarise_sweep(tmp_path)
    assert [(each.state, each.why) for each in sweep.trials] == [
        *(("failed", "no folder /nowhere"), ("failed", "killed"))
    ]
    assert sweep.best is None


def test_a_reason_that_runs_share_is_told_once(tmp_path: Path) -> None:
    write(
        tmp_path,
        trial(0, 0.1, "a", "b"),
        {"event": "ended", "trial": 0, "run": "a", "state": "failed", "why": "the loss is NaN. See trials/a"},
        {"event": "ended", "trial": 0, "run": "b", "state": "failed", "why": "the loss is NaN. See trials/b"},
    )
    assert summarise_sweep(tmp_path).trials[0].why == "the loss is NaN. See trials/a"


def test_a_run_that_a_signal_stopped_has_not_failed(tmp_path: Path) -> None:
    write(tmp_path, trial(0, 0.1, "a"), {"event": "ended", "trial": 0, "run": "a", "state": "stopped", "why": ""})
    make_run(tmp_path / "trials" / "a", START, epoch(1, 0.4))
    (found,) = summarise_sweep(tmp_path).trials
    assert (found.state, found.best_so_far, found.mean) == ("stopped", 0.4, None)


def test_a_pruned_trial_is_pruned_until_it_is_taken_up(tmp_path: Path) -> None:
    pruned = {"event": "pruned", "trial": 0, "epoch": 2, "why": "epoch 2: worse"}
    write(tmp_path, trial(0, 0.1, "a"), pruned)
    (found,) = summarise_sweep(tmp_path).trials
    assert (found.state, found.why) == ("pruned", "epoch 2: worse")
    write(tmp_path, trial(0, 0.1, "a"), pruned, {"event": "resumed", "trial": 0})
    (found,) = summarise_sweep(tmp_path).trials
    assert (found.state, found.why) == ("not begun", "")


def test_the_runs_of_a_pruned_trial_that_were_stopped_are_pruned(tmp_path: Path) -> None:
    pruned = {"event": "pruned", "trial": 0, "epoch": 2, "why": "epoch 2: worse"}
    write(tmp_path, trial(0, 0.1, "a", "b", "c"), pruned)
    make_run(tmp_path / "trials" / "a", START, epoch(1, 0.4), end("stopped by SIGTERM after epoch 1"))
    finished(tmp_path / "trials" / "b", 0.5)
    (found,) = summarise_sweep(tmp_path).trials
    assert [(run.state, run.why) for run in found.runs] == [
        *(("pruned", "epoch 2: worse"), ("finished", ""), ("not begun", ""))
    ]
    assert (found.state, found.why) == ("pruned", "epoch 2: worse")


@pytest.mark.parametrize(
    ("states", "is_pruned", "state"),
    [
        (["finished", "finished"], True, "finished"),
        (["finished", "running"], False, "running"),
        (["failed", "running"], False, "running"),
        (["failed", "stopped"], False, "failed"),
        (["stopped", "not begun"], True, "pruned"),
        (["stopped", "waiting"], False, "stopped"),
        (["waiting", "finished"], False, "waiting"),
        (["finished", "not begun"], False, "not begun"),
        ([], False, "not begun"),
    ],
)
def test_the_state_of_a_trial(states: list[Any], is_pruned: bool, state: str) -> None:
    assert state_of_trial(states, is_pruned=is_pruned) == state


def test_a_measure_is_the_best_over_the_epochs_or_the_results(tmp_path: Path) -> None:
    finished(tmp_path / "a", 0.7, val_macro_f1=0.55)
    run = RunFolder(tmp_path / "a")
    assert read_curve(run, "val_accuracy") == pytest.approx({1: 0.2, 2: 0.7, 3: 0.6})
    assert best_value(run, "val_accuracy") == 0.7
    assert best_value(run, "val_loss") == pytest.approx(0.3)
    assert best_value(run, "val_macro_f1") == 0.55
    # Lines of a later release have it too.
    run.metrics.write_text('{"kind": "epoch", "epoch": 1, "val_macro_f1": 0.6}\n{"kind": "epoch", "epoch": 2}\n')
    assert best_value(run, "val_macro_f1") == 0.6
    assert best_value(RunFolder(tmp_path / "nowhere"), "val_loss") is None


@pytest.mark.parametrize("text", ["", "torn", '{"event": "trial"}\n', '{"event": "sweep", "version": 99}\n[]\n'])
def test_a_torn_record_is_read_as_far_as_it_goes(tmp_path: Path, text: str) -> None:
    assert not is_sweep(tmp_path)
    (tmp_path / "sweep.jsonl").write_text(text)
    (tmp_path / "sweep.yaml").touch()
    assert is_sweep(tmp_path)
    assert read_record(tmp_path).trials == {}
    assert summarise_sweep(tmp_path).trials == ()


def test_a_header_with_values_of_wrong_types_leaves_the_defaults(tmp_path: Path) -> None:
    write(tmp_path, {"event": "sweep", "version": 1, "seeds": 5, "names": None, "num_trials": "x"}, trial(0, 0.1, "a"))
    sweep = summarise_sweep(tmp_path)
    assert (sweep.num_trials, sweep.seeds, sweep.names) == (1, (), ())


def test_numbers_that_training_cannot_write_are_omitted(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", START, epoch(1, 0.2), result={"finished": True, "val_macro_f1": 10**400})
    (run / "metrics.jsonl").write_text('{"kind": "epoch", "epoch": 1, "val_loss": 1e308}\n')
    assert read_curve(RunFolder(run), "val_loss") == {}
    assert best_value(RunFolder(run), "val_macro_f1") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"trial": 1e309},
        {"trial": -1},
        {"trial": "0"},
        {"settings": [1]},
        {"runs": [{"id": "../../a", "seed": 0}]},
        {"runs": [{"id": "a", "seed": "x"}]},
        {"runs": 3},
        {"study_trial": "z"},
    ],
)
def test_a_trial_with_a_value_of_a_wrong_type_is_omitted(tmp_path: Path, changes: dict[str, Any]) -> None:
    write(tmp_path, trial(0, 0.1, "a"), trial(1, 0.2, "b") | changes)
    assert list(read_record(tmp_path).trials) == [0]
