"""sweep.jsonl, as the sweep itself writes it. `results.sweeps` says what its lines hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from signs_dist.results.sweeps import RECORD, VERSION, Record, read_record
from signs_dist.run_folder.folder import timestamp
from signs_dist.run_folder.lines import append_line
from signs_dist.searching.definition import Definition
from signs_dist.searching.trials import Trial


class SweepRecord:
    """The record of a sweep. Methods that write raise `UserError` for a full disk.

    Args:
        path: the sweep's folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path / RECORD

    def read(self) -> Record:
        """What it says."""
        return read_record(self._path)

    def note_sweep(self, definition: Definition, num_trials: int | None) -> None:
        """Write down what is searched, and how."""
        header = {
            "version": VERSION,
            "search": definition.search,
            "by": definition.measure,
            "names": list(definition.names),
            "seeds": list(definition.seeds),
            "num_trials": num_trials,
        }
        before = {name: value for name, value in self.read().header.items() if name not in ("event", "time")}
        if before != header:
            self._note("sweep", header)

    def note_trial(self, trial: Trial) -> None:
        """Write down that a trial is part of the sweep."""
        runs = [{"id": run.id, "seed": run.seed} for run in trial.runs]
        study = {} if trial.study_trial is None else {"study_trial": trial.study_trial}
        self._note("trial", {"trial": trial.number, "settings": trial.chosen, "runs": runs} | study)

    def note_start(self, trial: Trial, run_id: str) -> None:
        """Write down that a run was started."""
        self._note("started", {"trial": trial.number, "run": run_id})

    def note_end(self, trial: Trial, run_id: str, state: str, code: int, why: str) -> None:
        """Write down how a run ended: `finished`, `stopped` or `failed`."""
        self._note("ended", {"trial": trial.number, "run": run_id, "state": state, "code": code, "why": why})

    def note_pruned(self, trial: Trial, epoch: int, why: str) -> None:
        """Write down that a trial is stopped early."""
        study = {} if trial.study_trial is None else {"study_trial": trial.study_trial}
        self._note("pruned", {"trial": trial.number, "epoch": epoch, "why": why} | study)

    def note_resumed(self, number: int) -> None:
        """Write down that a trial that was stopped early is taken up again."""
        self._note("resumed", {"trial": number})

    def _note(self, event: str, values: dict[str, Any]) -> None:
        append_line(self._file, {"event": event, "time": timestamp()} | values)
