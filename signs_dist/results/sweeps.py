"""A sweep's folder, read back as values: its trials, and the runs of each.

sweep.yaml    what is searched, and how
base.yaml     the config that all runs begin with, if there is one
sweep.jsonl   a line for each trial, and for each start and end of a run
trials/ID/    a run folder; ID is the digest of the run's config
output/ID.txt what the run's process printed
study.db      Optuna's study, of a TPE search

Trials count from 0, epochs from 1. Nothing here writes or prints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from signs_dist.results.result_values import is_count, is_number
from signs_dist.results.statistics import mean_and_sd
from signs_dist.results.summary import RunSummary, State, summarise_run
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.lines import read_lines

VERSION = 1
"""The version of sweep.jsonl; its lines with `"event": "sweep"` have it."""
DEFINITION = "sweep.yaml"
BASE = "base.yaml"
RECORD = "sweep.jsonl"
TRIALS = "trials"
OUTPUT = "output"
STUDY = "study.db"
DEFAULT_MEASURE = "val_accuracy"
MEASURES = {"val_accuracy": False, "val_loss": True, "val_macro_f1": False}
"""Numbers by which trials are compared → whether less is better."""

WORST_FIRST: tuple[State, ...] = ("running", "failed", "pruned", "stopped", "waiting")
"""The order in which the state of a run becomes that of its trial."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepRun:
    """A run of a trial.

    Attributes:
        id: the digest of its config, and the name of its folder.
        seed: None if the sweep has no seeds.
        summary: of its folder, which may not exist.
        value: its best value of the measure so far, over all epochs; None without one.
        state: of the run; as `summary.state`, but `failed` also for a run that failed before it began.
        why: the reason why it is not finished; "" for a run that is under way or not begun.
    """

    id: str
    seed: int | None
    summary: RunSummary
    value: float | None
    state: State
    why: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepTrial:
    """A choice of the settings that are searched, with its runs.

    Attributes:
        number: from 0.
        chosen: setting → value.
        runs: one a seed.
        state: pruned, or that of the run that is worst off.
        why: the reason why it is not finished.
        mean, sd: of the values of its finished runs; sd is None for a single run, mean without a run.
        best_so_far: mean over the values of all its runs, finished or not; None without one.
        test_accuracy: mean over its finished runs; None if one has none.
        study_trial: number of the trial in Optuna's study; None outside of a TPE search.
    """

    number: int
    chosen: dict[str, Any]
    runs: tuple[SweepRun, ...]
    state: State
    why: str = ""
    mean: float | None = None
    sd: float | None = None
    best_so_far: float | None = None
    test_accuracy: float | None = None
    study_trial: int | None = None

    @property
    def num_finished(self) -> int:
        """How many of its runs are finished."""
        return sum(run.state == "finished" for run in self.runs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepSummary:
    """A sweep.

    Attributes:
        path: its folder.
        search: grid, random or tpe.
        measure: by which trials are compared.
        names: the settings that are searched.
        seeds: of the runs of each trial; empty for one run with the seed of the config.
        num_trials: how many there are in the end.
        trials: those decided so far, in the order of their numbers.
    """

    path: Path
    search: str
    measure: str
    names: tuple[str, ...]
    seeds: tuple[int, ...]
    num_trials: int
    trials: tuple[SweepTrial, ...]

    @property
    def is_less_better(self) -> bool:
        """Whether a smaller value of the measure is better."""
        return MEASURES[self.measure]

    @property
    def ranked(self) -> list[SweepTrial]:
        """Finished trials, the best first; then all others, in the order of their numbers. Equal ones keep theirs."""
        sign = 1 if self.is_less_better else -1
        done = [trial for trial in self.trials if trial.state == "finished" and trial.mean is not None]
        others = [trial for trial in self.trials if trial not in done]
        return [*sorted(done, key=lambda trial: (sign * (trial.mean or 0.0), trial.number)), *others]

    @property
    def best(self) -> SweepTrial | None:
        """The best of the trials all of whose runs are finished; None without one."""
        first = self.ranked[0] if self.trials else None
        return first if first is not None and first.state == "finished" and first.mean is not None else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialLine:
    """A trial as sweep.jsonl names it.

    Attributes:
        number, chosen, study_trial: as in `SweepTrial`.
        runs: (id, seed) of each run.
        is_pruned: whether it was stopped early, and not taken up again since.
        why_pruned: the reason.
    """

    number: int
    chosen: dict[str, Any]
    runs: tuple[tuple[str, int | None], ...]
    study_trial: int | None = None
    is_pruned: bool = False
    why_pruned: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What sweep.jsonl says.

    Attributes:
        header: the newest line about the sweep itself.
        trials: by number; of several lines for one trial the newest counts.
        ends: run id → the line of its newest end.
    """

    header: dict[str, Any]
    trials: dict[int, TrialLine]
    ends: dict[str, dict[str, Any]]


def is_sweep(path: Path) -> bool:
    """Whether a folder holds a sweep."""
    return (path / RECORD).is_file() and (path / DEFINITION).is_file()


def read_record(path: Path) -> Record:
    """sweep.jsonl of a sweep's folder; lines that cannot be read are omitted."""
    header: dict[str, Any] = {}
    trials: dict[int, TrialLine] = {}
    ends: dict[str, dict[str, Any]] = {}
    for line in read_lines(path / RECORD):
        event, number = line.get("event"), line.get("trial")
        if event == "sweep" and line.get("version") == VERSION:
            header = line
        elif event == "trial":
            if (trial := _read_trial(line)) is not None:
                trials[trial.number] = trial
        elif event == "ended":
            ends[str(line.get("run"))] = line
        elif event in ("pruned", "resumed") and is_count(number) and number in trials:
            is_pruned = event == "pruned"
            why = str(line.get("why", "")) if is_pruned else ""
            trials[number] = dataclasses.replace(trials[number], is_pruned=is_pruned, why_pruned=why)
    return Record(header=header, trials=dict(sorted(trials.items())), ends=ends)


def _read_trial(line: Mapping[str, Any]) -> TrialLine | None:
    number, study_trial = line.get("trial"), line.get("study_trial")
    try:
        chosen = dict(line["settings"])
        runs = tuple((str(run["id"]), run["seed"]) for run in line["runs"])
    except (KeyError, TypeError, ValueError):
        return None
    are_runs = all(Path(name).name == name and (seed is None or is_count(seed)) for name, seed in runs)
    if not is_count(number) or not are_runs or not (study_trial is None or is_count(study_trial)):
        return None
    return TrialLine(number=number, chosen=chosen, runs=runs, study_trial=study_trial)


def summarise_sweep(path: Path, measure: str | None = None) -> SweepSummary:
    """The summary of a sweep's folder; whatever is missing or torn leaves its field at the default.

    Args:
        path: the folder.
        measure: by which trials are compared, one of MEASURES; None: by that of the sweep.
    """
    record = read_record(path)
    measure = measure or str(record.header.get("by", DEFAULT_MEASURE))
    measure = measure if measure in MEASURES else DEFAULT_MEASURE
    trials = tuple(_summarise_trial(path, trial, record, measure) for trial in record.trials.values())
    num_trials = record.header.get("num_trials")
    return SweepSummary(
        path=path,
        search=str(record.header.get("search", "grid")),
        measure=measure,
        names=tuple(map(str, _list_of(record.header.get("names")))),
        seeds=tuple(seed for seed in _list_of(record.header.get("seeds")) if is_count(seed)),
        num_trials=max(len(trials), num_trials if is_count(num_trials) else 0),
        trials=trials,
    )


def _list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _summarise_trial(path: Path, line: TrialLine, record: Record, measure: str) -> SweepTrial:
    runs = tuple(
        _summarise_run(path / TRIALS / name, name, seed, record.ends.get(name), measure) for name, seed in line.runs
    )
    if line.is_pruned:
        runs = tuple(
            dataclasses.replace(run, state="pruned", why=line.why_pruned) if run.state == "stopped" else run
            for run in runs
        )
    values = [run.value for run in runs if run.state == "finished" and run.value is not None]
    so_far = [run.value for run in runs if run.value is not None]
    tests = [run.summary.test_accuracy for run in runs if run.state == "finished"]
    mean, sd = mean_and_sd(values) if values else (None, None)
    state = state_of_trial([run.state for run in runs], is_pruned=line.is_pruned)
    whys: dict[str, str] = {}
    for run in runs:
        if run.why and run.state == state:
            # The further sentences of a reason name the run's own files: the first tells whether runs share it.
            whys.setdefault(run.why.partition(". ")[0], run.why)
    return SweepTrial(
        number=line.number,
        chosen=line.chosen,
        runs=runs,
        state=state,
        why=line.why_pruned if state == "pruned" else "; ".join(whys.values()),
        mean=mean,
        sd=sd,
        best_so_far=mean_and_sd(so_far)[0] if so_far else None,
        test_accuracy=mean_and_sd(known)[0] if (known := [each for each in tests if each is not None]) else None,
        study_trial=line.study_trial,
    )


def state_of_trial(states: Iterable[State], *, is_pruned: bool) -> State:
    """The state of a trial, from those of its runs."""
    found: set[State] = set(states)
    if found == {"finished"}:
        return "finished"
    pruned: set[State] = {"pruned"} if is_pruned else set()
    present = (found | pruned) - {"finished", "not begun"}
    return next((state for state in WORST_FIRST if state in present), min(present, default="not begun"))


def _summarise_run(path: Path, name: str, seed: int | None, end: Mapping[str, Any] | None, measure: str) -> SweepRun:
    summary = summarise_run(path, quick=True)
    state: State = summary.state
    why = summary.why
    if end is not None and state in ("failed", "not begun"):
        # The sweep knows more than the folder: what was printed before the run began, and whom a signal was from.
        if end.get("state") == "failed":
            state, why = "failed", str(end.get("why") or why)
        elif end.get("state") == "stopped" and state == "failed":
            state = "stopped"
    value = best_value(RunFolder(path), measure)
    return SweepRun(id=name, seed=seed, summary=summary, value=value, state=state, why=why)


def best_value(folder: RunFolder, measure: str) -> float | None:
    """The best value of a measure over the validated epochs of a run; from its result if no epoch has it."""
    curve = read_curve(folder, measure)
    if curve:
        return (min if MEASURES[measure] else max)(curve.values())
    value = (folder.read_result() or {}).get(measure)
    return float(value) if is_number(value) else None


def read_curve(folder: RunFolder, measure: str) -> dict[int, float]:
    """Epoch, from 1 → the value of a measure, for each validated epoch of a run. Epochs without the number are omitted.

    A number that a later release adds to the lines of metrics.jsonl is found by its name.
    """
    curve: dict[int, float] = {}
    for line in folder.read_lines(folder.metrics):
        value, epoch = line.get(measure), line.get("epoch")
        if line.get("kind") == "epoch" and is_count(epoch) and is_number(value):
            curve[epoch] = float(value)
    return curve
