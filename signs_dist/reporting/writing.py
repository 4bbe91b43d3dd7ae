"""Write the report about one run or several into one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from signs_dist.errors import UserError
from signs_dist.files import find_other_kind, write_text
from signs_dist.reporting import REPORT
from signs_dist.reporting.comparison_page import view_runs
from signs_dist.reporting.content import read_content
from signs_dist.reporting.page import render
from signs_dist.reporting.run_page import view_run
from signs_dist.reporting.sweep_view import run_folders
from signs_dist.results.finding import find_runs as search
from signs_dist.results.sweeps import summarise_sweep


def choose_output(given: Sequence[Path], output: Path | None) -> Path:
    """The file to write: as given, or report.html in the only folder, or in the working directory.

    Raises:
        UserError: the name is taken by a folder, a pipe or a device. To open a pipe would wait for a reader.
    """
    if output is not None:
        return output
    chosen = given[0] / REPORT if len(given) == 1 else Path(REPORT)
    if kind := find_other_kind(chosen):
        raise UserError(f"{chosen} is {kind}, where the report is to be. Remove it, or name another file with --out.")
    return chosen


def find_runs(given: Sequence[Path]) -> list[Path]:
    """The run folders that the paths name: a run folder itself, or all below another folder, sorted by path.

    Raises:
        UserError: a path does not exist, or has no run folder.
    """
    found: list[Path] = []
    for path in given:
        below = [path] if (path / "config.yaml").exists() else _begun_below(path)
        if not below:
            what = "has no run folder in it" if path.is_dir() else "does not exist"
            raise UserError(f"{path} {what}. Give a run folder, as in: python -m signs_dist.report runs/NAME")
        found += [run for run in below if run not in found]
    return found


def _begun_below(folder: Path) -> list[Path]:
    """The run folders below a folder in which a run has begun."""
    found = search(folder) if folder.is_dir() else []
    return [each.path for each in found if each.kind == "run" and (each.path / "config.yaml").exists()]


def write_report(runs: Sequence[Path], output: Path, *, is_folder: bool = False) -> None:
    """Write the report about one run, or the comparison of several.

    Args:
        runs: the run folders.
        output: the file to write.
        is_folder: whether the runs are all those of a folder, which is compared even if it holds one run.

    Raises:
        UserError: a path is no run folder, or the file cannot be written.
    """
    if len(runs) == 1 and not is_folder:
        write_run_report(runs[0], output)
    else:
        write_text(output, render("comparison.html", view_runs(runs), is_plural=True))


def write_sweep_report(path: Path, output: Path) -> int:
    """Write the report about a sweep: its trials, also those that have no run folder, and its runs.

    Returns:
        The number of trials.

    Raises:
        UserError: the file cannot be written.
    """
    sweep = summarise_sweep(path)
    write_text(output, render("comparison.html", view_runs(run_folders(sweep), sweep), is_plural=True))
    return len(sweep.trials)


def write_run_report(path: Path, output: Path, *, is_ended: bool = False) -> None:
    """Write the report about one run.

    Args:
        path: the run folder.
        output: the file to write.
        is_ended: whether the last attempt has ended although its process still holds the folder: that process asks.

    Raises:
        UserError: `path` is no run folder, or the file cannot be written.
    """
    write_text(output, render("run.html", view_run(read_content(path, is_ended=is_ended))))
