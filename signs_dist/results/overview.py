"""All runs below a folder, or some that are named: each with what its files, its job and its sweep say."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from signs_dist.errors import UserError
from signs_dist.results.finding import FoundFolder, find_runs
from signs_dist.results.liveness import FileClock
from signs_dist.results.queued import QueueAnswer, ask_queue, with_queue
from signs_dist.results.summary import RunSummary, summarise_run
from signs_dist.results.sweep_runs import with_sweeps
from signs_dist.run_folder.removal import is_partly_removed


def read_runs(folder: Path) -> tuple[list[RunSummary], QueueAnswer]:
    """The runs below a folder, and what the schedulers said. A folder that is broken or missing raises nothing."""
    found = find_runs(folder) if folder.is_dir() else []
    clock = FileClock(folder if all(each.path != folder for each in found) else folder.absolute().parent)
    return _join([_summarise(each, clock) for each in found])


def read_named_runs(paths: Sequence[Path]) -> tuple[list[RunSummary], QueueAnswer]:
    """As `read_runs`, of the run folders that are given."""
    found = [FoundFolder(path, "partly removed" if is_partly_removed(path) else "run") for path in paths]
    return _join([_summarise(each, None) for each in found])


def _join(summaries: list[RunSummary]) -> tuple[list[RunSummary], QueueAnswer]:
    answer = ask_queue(summaries)
    return with_sweeps([with_queue(summary, answer) for summary in summaries]), answer


def _summarise(found: FoundFolder, clock: FileClock | None) -> RunSummary:
    """The summary of a folder; of a broken one a summary that says so."""
    path = found.path
    if found.kind == "partly removed":
        return RunSummary(path=path, state=found.kind, why=f"python -m signs_dist.runs rm {shlex.quote(str(path))}")
    if found.kind == "unreadable":
        return RunSummary(path=path, state=found.kind, why=found.why)
    try:
        return summarise_run(path, quick=True, clock=clock)
    except (UserError, OSError) as error:
        return RunSummary(path=path, state="unreadable", why=str(error))
