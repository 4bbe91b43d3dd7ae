"""The charts of one run, with the words and the numbers beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from signs_dist.reporting.content import read_content
from signs_dist.reporting.run_charts import Figure, reliability_figure, run_figures
from signs_dist.reporting.scores import ConfidenceBin
from signs_dist.run_folder.records import EndLine, StartLine
from tests.reporting.run_folders import write_run


@pytest.fixture(scope="module")
def figures(one_run: Path) -> dict[str, Figure]:
    return {figure.name: figure for figure in run_figures(read_content(one_run))}


def test_a_run_has_five_charts_and_two_of_them_tell_of_time(figures: dict[str, Figure]) -> None:
    assert [name for name, figure in figures.items() if not figure.varies] == ["loss", "accuracy", "rate"]
    assert [name for name, figure in figures.items() if figure.varies] == ["speed", "wait"]


def test_a_chart_is_described_in_words_and_as_a_table(one_run: Path, figures: dict[str, Figure]) -> None:
    accuracy = figures["accuracy"]
    first, last = read_content(one_run).epochs[0], read_content(one_run).epochs[-1]
    assert accuracy.description.startswith("Accuracy over steps. train: from ")
    assert f"val: from {100 * (first.val_accuracy or 0):.1f} % at step 20" in accuracy.description
    assert accuracy.header == ["step", "train", "val"]
    assert accuracy.rows[-1] == ["600", f"{100 * last.train_accuracy:.1f} %", f"{100 * (last.val_accuracy or 0):.1f} %"]
    assert len(figures["rate"].rows) <= 31


def test_a_short_run_shows_points_within_epochs_and_a_run_without_lines_no_chart(tmp_path: Path) -> None:
    short = {figure.name: figure for figure in run_figures(read_content(write_run(tmp_path / "a", epochs=2)))}
    assert [row[0] for row in short["loss"].rows] == ["10", "20", "30", "40"]
    (tmp_path / "a" / "metrics.jsonl").unlink()
    assert run_figures(read_content(tmp_path / "a")) == []


def test_a_loss_that_diverged_has_a_logarithmic_axis_and_says_so(tmp_path: Path, figures: dict[str, Figure]) -> None:
    run = write_run(tmp_path / "a", epochs=6)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    next(line for line in lines if line.get("val_loss"))["val_loss"] = 1e9
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    loss, accuracy, *_ = run_figures(read_content(run))
    assert "The vertical axis is logarithmic, because the highest value is more than 10 times" in loss.note
    assert next(scale["type"] for scale in loss.vega["scales"] if scale["name"] == "y") == "log"
    assert accuracy.note == figures["loss"].note == ""


def test_later_attempts_are_marked(tmp_path: Path) -> None:
    attempts = [
        StartLine(attempt=1, time="2026-01-31T12:00:00+00:00", first_step=0, world_size=1),
        EndLine(attempt=1, time="2026-01-31T12:10:00+00:00", reason="SIGTERM", last_step=25),
        StartLine(attempt=2, time="2026-01-31T12:20:00+00:00", first_step=25, world_size=1),
    ]
    loss = run_figures(read_content(write_run(tmp_path / "a", epochs=2, attempts=attempts)))[0]
    marks = next(data["values"] for data in loss.vega["data"] if data["name"] == "attempts")
    assert marks == [{"x": 25, "t": "attempt 2 begins after step 25"}]


def test_the_reliability_curve_has_its_numbers_beside_it() -> None:
    figure = reliability_figure("val", [ConfidenceBin(0.8, 0.9, 1200, 0.85, 0.75)], 0.1)
    assert figure.rows == [["80.0 % to 90.0 %", "1,200", "85.0 %", "75.0 %"]]
    assert "expected calibration error is 10.0 %" in figure.description
