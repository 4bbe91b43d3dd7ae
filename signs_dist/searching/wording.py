"""Sweeps in words and tables."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signs_dist.console.screen import columns
from signs_dist.results.choices import describe_number, short
from signs_dist.results.summary import State
from signs_dist.results.sweeps import WORST_FIRST, SweepSummary, SweepTrial


def describe_sweep(sweep: SweepSummary) -> str:
    """A sweep's table: the best trial first, those without a result with the reason."""
    told = ", ".join(f"{count} {state}" for state, count in count_states(sweep)) or "none begun"
    head = f"{sweep.path}: {describe_search(sweep)}: {told}"
    return f"{head}\n\n{columns(table_of_trials(sweep))}" if sweep.trials else head


def count_states(sweep: SweepSummary) -> list[tuple[State, int]]:
    """The states of its trials and how many have each, finished ones first."""
    counts = Counter(trial.state for trial in sweep.trials)
    return [(state, counts[state]) for state in sorted(counts, key=_place)]


def describe_search(sweep: SweepSummary) -> str:
    """What is searched: `grid, 2 trials with seeds 0, 1`."""
    seeds = f" with seeds {', '.join(map(str, sweep.seeds))}" if sweep.seeds else ""
    return f"{sweep.search}, {sweep.num_trials} trial{'' if sweep.num_trials == 1 else 's'}{seeds}"


def table_of_trials(sweep: SweepSummary) -> list[list[str]]:
    """The titles of the columns, then a row for each trial, in the order of `sweep.ranked`."""
    has_test = any(trial.test_accuracy is not None for trial in sweep.trials)
    has_why = any(trial.why for trial in sweep.trials)
    titles = ["trial", *sweep.names, sweep.measure, *(["test"] if has_test else []), "runs", "state"]
    rows = [[*titles, *(["why"] if has_why else [])]]
    for trial in sweep.ranked:
        test = [describe_number("accuracy", trial.test_accuracy) if trial.test_accuracy is not None else "-"]
        rows.append(
            [
                str(trial.number),
                *(short(trial.chosen[name]) if name in trial.chosen else "-" for name in sweep.names),
                _value(sweep.measure, trial),
                *(test if has_test else []),
                f"{trial.num_finished}/{len(trial.runs)}",
                trial.state,
                *([trial.why] if has_why else []),
            ]
        )
    return rows


def _place(state: State) -> int:
    order = ("finished", *WORST_FIRST)
    return order.index(state) if state in order else len(order)


def _value(measure: str, trial: SweepTrial) -> str:
    if trial.mean is not None:
        return describe_number(measure, trial.mean, trial.sd)
    if trial.best_so_far is not None:
        return f"({describe_number(measure, trial.best_so_far)})"  # so far
    return "-"


def describe_best(sweep: SweepSummary, best: SweepTrial) -> str:
    """The winner of a sweep: its settings, its config, and the commands to train and to evaluate it."""
    assert best.mean is not None
    seeds = f", mean over seeds {', '.join(map(str, sweep.seeds))}" if len(sweep.seeds) > 1 else ""
    done = sum(trial.state == "finished" for trial in sweep.trials)
    value = describe_number(sweep.measure, best.mean, best.sd)
    lines = [
        f"trial {best.number}: {sweep.measure} {value}{seeds}, the best of {done}",
        *(f"  {name} = {short(value)}" for name, value in best.chosen.items()),
    ]
    path = best.runs[0].summary.path
    train = ["python", "-m", "signs_dist.train", "--config", str(path / "config.yaml")]
    lines += [
        f"its config           {path / 'config.yaml'}",
        f"to train it again    {shlex.join([*train, '--run-dir', str(sweep.path) + '-best'])}",
        f"to evaluate it       {shlex.join(['python', '-m', 'signs_dist.evaluate', str(path)])}",
    ]
    return "\n".join(lines)


def to_json(sweep: SweepSummary) -> dict[str, Any]:
    """A sweep as plain values: its trials in the order of the table, the first being the best."""
    return {
        "path": str(sweep.path),
        "search": sweep.search,
        "by": sweep.measure,
        "settings": list(sweep.names),
        "seeds": list(sweep.seeds),
        "num_trials": sweep.num_trials,
        "best": sweep.best.number if sweep.best is not None else None,
        "trials": [_trial_json(trial) for trial in sweep.ranked],
    }


def _trial_json(trial: SweepTrial) -> dict[str, Any]:
    fields = {
        name: getattr(trial, name)
        for name in ("number", "chosen", "state", "why", "mean", "sd", "best_so_far", "test_accuracy", "study_trial")
    }
    runs = [
        {"id": run.id, "seed": run.seed, "path": str(run.summary.path), "state": run.state, "value": run.value}
        | {"why": run.why}
        for run in trial.runs
    ]
    return fields | {"runs": runs}


def describe_planned(path: Path, commands: Mapping[int, list[list[str]]], choices: Mapping[int, str]) -> str:
    """What a sweep would run: for each trial its choice, and the command of each run that has no result.

    Args:
        path: the sweep's folder.
        commands: number of a trial → the command lines of its runs that have no result.
        choices: number of a trial → its choice in words.
    """
    lines = [f"{path}: {len(choices)} trials, {sum(map(len, commands.values()))} runs to train"]
    for number, choice in choices.items():
        lines.append(f"trial {number}  {choice}{'' if commands[number] else '  (all runs are finished)'}")
        lines += [f"    {shlex.join(command)}" for command in commands[number]]
    return "\n".join(lines)
