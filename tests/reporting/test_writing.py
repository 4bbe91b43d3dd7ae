"""Which runs a report is about, and where it is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.reporting.writing import choose_output, find_runs, write_report
from tests.reporting.run_folders import write_run


@pytest.mark.parametrize(
    ("given", "output", "expected"),
    [
        (["runs/a"], None, "runs/a/report.html"),
        (["runs/a", "runs/b"], None, "report.html"),
        (["runs/a"], "x.html", "x.html"),
    ],
)
def test_where_it_is_written(given: list[str], output: str | None, expected: str) -> None:
    chosen = choose_output([Path(path) for path in given], Path(output) if output else None)
    assert chosen == Path(expected)


def test_run_folders_are_found_below_a_folder_and_counted_once(sweep: Path, one_run: Path) -> None:
    runs = find_runs([sweep, one_run, sweep / "trials" / "0003"])
    assert len(runs) == 13
    assert runs[-1] == one_run
    assert find_runs([one_run]) == [one_run]


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no run folder in it"):
        find_runs([tmp_path])
    with pytest.raises(UserError, match=r"does not exist.*python -m signs_dist.report"):
        find_runs([tmp_path / "missing"])


def test_three_runs_of_100_epochs_stay_below_3_mb(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, f"seed={seed}", epochs=100) for seed, name in enumerate("abc")]
    write_report(runs, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_the_state_is_not_told_twice(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", epochs=2, is_finished=False, end="stopped by SIGTERM after epoch 2")
    write_report([run], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Stopped by SIGTERM after epoch 2" in page
    assert "<strong>Stopped:" not in page


def test_a_pipe_in_the_place_of_the_report_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.html")
    with pytest.raises(UserError, match=r"report.html is a pipe \(FIFO\), where the report is to be. Remove it"):
        choose_output([tmp_path], None)
    assert choose_output([tmp_path], tmp_path / "report.html") == tmp_path / "report.html"  # asked for
