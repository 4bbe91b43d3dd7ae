"""What sweeps know of runs that are looked at one by one: what was tried, and that a trial was stopped early."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from signs_dist.results.choices import describe_run
from signs_dist.results.summary import RunSummary
from signs_dist.results.sweeps import TRIALS, TrialLine, is_sweep, read_record


@dataclasses.dataclass(frozen=True)
class _Known:
    """A run as its sweep knows it."""

    trial: TrialLine
    seed: int | None


def with_sweeps(summaries: Sequence[RunSummary]) -> list[RunSummary]:
    """The summaries; those of a sweep's runs say what was tried, and `pruned` where it stopped their trial early.

    The file of each sweep is read once.
    """
    sweeps: dict[Path, dict[str, _Known]] = {}
    return [_with_sweep(summary, sweeps) for summary in summaries]


def _with_sweep(summary: RunSummary, sweeps: dict[Path, dict[str, _Known]]) -> RunSummary:
    # A link to a run has another name and stands elsewhere.
    path = summary.path.resolve()
    if path.parent.name != TRIALS:
        return summary
    sweep = path.parent.parent
    if sweep not in sweeps:
        sweeps[sweep] = _read_runs(sweep) if is_sweep(sweep) else {}
    known = sweeps[sweep].get(path.name)
    if known is None:
        return summary
    tried = describe_run(known.trial.chosen, known.seed)
    if known.trial.is_pruned and summary.state == "stopped":
        return dataclasses.replace(summary, tried=tried, state="pruned", why=known.trial.why_pruned)
    return dataclasses.replace(summary, tried=tried)


def _read_runs(sweep: Path) -> dict[str, _Known]:
    """Name of each run's folder → the run. Of trials that share a run, the first one counts."""
    runs: dict[str, _Known] = {}
    for trial in read_record(sweep).trials.values():
        for name, seed in trial.runs:
            runs.setdefault(name, _Known(trial, seed))
    return runs
