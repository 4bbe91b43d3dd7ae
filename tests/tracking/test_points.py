from __future__ import annotations

import dataclasses

from signs_dist.run_folder.records import SaveLine
from signs_dist.tracking.points import points_after
from tests.tracking.runs import epoch_line, step_line


def test_a_line_is_a_point_under_the_names_that_dashboards_group_by() -> None:
    points = points_after([step_line(5), epoch_line(10)], 0)
    assert [point.step for point in points] == [5, 10]
    assert points[0].values == {
        "epoch": 1.0,
        "train/loss": 1.0,
        "train/accuracy": 0.5,
        "lr": 0.1,
        "images_per_second": 100.0,
        "data_wait_share": 0.0,
    }
    assert points[1].values == {**points[0].values, "val/loss": 0.5, "val/accuracy": 0.75}


def test_an_epoch_that_was_not_validated_has_no_val_numbers() -> None:
    (point,) = points_after([epoch_line(10, val_loss=None)], 0)
    assert not [name for name in point.values if name.startswith("val")]


def test_steps_that_are_known_and_repeated_steps_are_omitted() -> None:
    lines = [
        step_line(5),
        SaveLine(epoch=1, step=5, stall_seconds=0.1),
        step_line(10),
        step_line(10, 2.0),
        step_line(7),
    ]
    assert [point.step for point in points_after(lines, 5)] == [10]
    assert points_after(lines, 10) == []


def test_own_metrics_are_points_of_their_own() -> None:
    line = dataclasses.replace(epoch_line(3), val_metrics={"kappa": 0.5, "lift": None})
    values = points_after([line], 0)[0].values
    assert values["val/kappa"] == 0.5
    assert not any("lift" in name or "metrics" in name for name in values)
