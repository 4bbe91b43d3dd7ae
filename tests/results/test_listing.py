from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from signs_dist.errors import UserError
from signs_dist.results.listing import COLUMNS, JSON_KEYS, count_states, sort_runs, table_lines, to_json
from signs_dist.results.summary import RunSummary

ROOT = Path("runs")


def run(name: str, state: Any = "finished", **fields: Any) -> RunSummary:
    return RunSummary(path=ROOT / name, state=state, **fields)


RUNNING = run(
    "signs-20260131-120000",
    "running",
    epoch=12,
    num_epochs=20,
    val_accuracy=0.811,
    images_per_second=1780.4,
    seconds_left=125.0,
    num_attempts=2,
    where="node3",
    job="4711",
    started="2026-01-31T12:00:00+00:00",
)
FAILED = run(
    "lr=0.3",
    "failed",
    why="TrainingFailedError: the training loss is not a finite number at epoch 1",
    epoch=1,
    num_epochs=20,
    num_attempts=1,
    where="vm",
    started="2026-01-30",
)
FINISHED = run("b", val_accuracy=0.9, epoch=20, num_epochs=20, num_attempts=1, where="vm", started="2026-01-29")


def text(summaries: list[RunSummary], width: int | None) -> list[str]:
    return [line.plain for line in table_lines(summaries, ROOT, width)]


def test_without_a_terminal_every_run_is_one_whole_line() -> None:
    assert text([RUNNING, FAILED, FINISHED], None) == [
        "run                    state     val     epoch  images/s  left        attempts  where",
        "signs-20260131-120000  running   81.1 %  12/20  1,780     2 min 05 s  2         node3, job 4711",
        "lr=0.3                 failed            1/20                         1         vm"
        "               TrainingFailedError: the training loss is not a finite number at epoch 1",
        "b                      finished  90.0 %  20/20                        1         vm",
    ]


def test_a_wide_terminal_has_the_reason_beside_the_run() -> None:
    lines = text([RUNNING, FAILED], 120)
    assert lines[2].endswith("  vm               TrainingFailedError: th…")
    assert max(map(cell_len, lines)) <= 120


def test_a_narrow_terminal_leaves_out_columns_and_says_so() -> None:
    assert text([RUNNING, FAILED, FINISHED], 60) == [
        "run                    state     val     epoch  left",
        "signs-20260131-120000  running   81.1 %  12/20  2 min 05 s",
        "lr=0.3                 failed            1/20",
        "    TrainingFailedError: the training loss is not a finite…",
        "b                      finished  90.0 %  20/20",
        "not shown, for lack of width: attempts, images/s, where",
    ]


@pytest.mark.parametrize("width", [1, 10, 20, 40, 59, 60, 61, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = run("an-" * 60 + "end", "failed", why="no " * 90, where="n" * 200, val_accuracy=0.5)
    lines = text([RUNNING, long, run("写真" * 40, "stopped")], width)
    if width >= 60:
        assert all(cell_len(line) <= width for line in lines)
    assert len(lines) >= 4


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    name = f"sweep/000-{'x' * 60}-seed=17"
    (_, line) = text([run(name)], 60)[:2]
    assert line.startswith("sweep/000-")
    assert "…" in line
    assert "-seed=17  finished" in line


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (200, "optim.lr=0.03 train.global_batch=16 optim.momentum=0.9 seed=0"),
        (80, "optim.lr=0.03 train.…m.momentum=0.9 seed=0"),
        (60, "optim.lr=0…=0.9 seed=0"),
        (50, "finished"),
    ],
)
def test_what_was_tried_is_cut_before_it_is_left_out(width: int, shown: str) -> None:
    tried = "optim.lr=0.03 train.global_batch=16 optim.momentum=0.9 seed=0"
    lines = text([run("lr/trials/2aa3eae6cab6", tried=tried, val_accuracy=0.5, where="vm")], width)
    assert shown in lines[1]
    assert ("tried" in lines[0]) == (width > 50)
    assert all(cell_len(line) <= width for line in lines)


def test_control_characters_are_shown_and_not_sent() -> None:
    lines = text([run("a\x1b[2J\nb", "failed", why="x\x07\ny", where="h\x1b")], None)
    assert len(lines) == 2
    assert "a\\x1b[2J\\nb" in lines[1]
    assert "x\\x07\\ny" in lines[1]


@pytest.mark.parametrize(
    ("key", "names"),
    [
        (None, ["signs-20260131-120000", "lr=0.3", "b", "none"]),
        ("val_accuracy", ["b", "signs-20260131-120000", "lr=0.3", "none"]),
        ("val", ["b", "signs-20260131-120000", "lr=0.3", "none"]),
        ("state", ["signs-20260131-120000", "lr=0.3", "none", "b"]),
        ("path", ["b", "lr=0.3", "none", "signs-20260131-120000"]),
        ("epoch", ["b", "signs-20260131-120000", "lr=0.3", "none"]),
        ("seconds_left", ["signs-20260131-120000", "lr=0.3", "none", "b"]),
        ("num_attempts", ["signs-20260131-120000", "lr=0.3", "b", "none"]),
        ("where", ["signs-20260131-120000", "lr=0.3", "b", "none"]),
    ],
)
def test_runs_are_sorted_by_a_column_and_those_without_a_value_come_last(key: str | None, names: list[str]) -> None:
    summaries = [RUNNING, FAILED, run("none", "not begun"), FINISHED]
    assert [each.path.name for each in sort_runs(summaries, key)] == names


def test_every_column_that_is_shown_can_be_sorted_by() -> None:
    for header in (*text([RUNNING, FAILED], None)[0].split(), "why"):
        assert len(sort_runs([RUNNING, FAILED], header)) == 2


def test_a_wrong_column_is_named_with_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"--sort val_acuracy: no such column\. Did you mean val_accuracy\? Legal: tried"
    ):
        sort_runs([], "val_acuracy")


def test_json_has_the_keys_that_are_documented() -> None:
    values = to_json(RUNNING)
    assert tuple(values) == JSON_KEYS
    assert (values["path"], values["val_accuracy"], values["job"]) == ("runs/signs-20260131-120000", 0.811, "4711")
    json.dumps(values, allow_nan=False)
    page = (Path(__file__).parents[2] / "docs" / "runs.md").read_text(encoding="utf-8")
    assert [key for key in JSON_KEYS if f"`{key}`" not in page] == []
    assert [column.key for column in COLUMNS if f"`{column.key}`" not in page] == []


def test_what_is_not_a_number_is_not_shown() -> None:
    assert "nan" not in text([run("a", val_accuracy=None, images_per_second=0.0, seconds_left=None)], None)[1]
    assert "-" in text([run("a", val_accuracy=math.nan)], None)[1]


def test_the_states_are_counted() -> None:
    assert count_states([RUNNING, FAILED, FAILED, FINISHED]) == "4 runs: 1 running, 2 failed, 1 finished"
    assert count_states([FINISHED]) == "1 run: 1 finished"
