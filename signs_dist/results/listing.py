"""The list of runs: which columns it has, how it is sorted, and how it fits the width of a terminal."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from signs_dist.console.screen import duration, percent
from signs_dist.errors import UserError
from signs_dist.monitoring.plain_text import one_line
from signs_dist.results.summary import RunSummary, State

LEAST_NAME = 18
"""Columns of the terminal that the names of runs get at least, before other columns are left out."""
LEAST_WHY = 24
"""Columns that a reason gets beside its run; in fewer it is on a line of its own."""
GAP = 2
STATE_ORDER: tuple[State, ...] = (
    "running",
    "waiting",
    "failed",
    "stopped",
    "pruned",
    "not begun",
    "partly removed",
    "unreadable",
    "finished",
)
STYLES = {
    "running": "bold cyan",
    "waiting": "blue",
    "finished": "green",
    "stopped": "yellow",
    "pruned": "yellow",
    "failed": "bold red",
    "partly removed": "red",
    "unreadable": "red",
    "not begun": "dim",
}


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        header: its name in the table.
        key: its name in JSON and for --sort.
        value: what is sorted by; None comes last.
        text: what is shown; "" hides it from the table, for a key that is only sorted by.
        descends: whether the largest value comes first.
        leaves: when it is left out of a narrow table: the highest number first; 0 never.
        least: to how many columns of the terminal it is cut before it is left out; 0: it is not cut.
    """

    header: str
    key: str
    value: Callable[[RunSummary], Any]
    text: Callable[[RunSummary], str] | None = None
    descends: bool = False
    leaves: int = 0
    least: int = 0


def _where(summary: RunSummary) -> str:
    return ", ".join(filter(None, (summary.where, f"job {summary.job}" if summary.job else "")))


COLUMNS = (
    Column("tried", "tried", lambda each: each.tried or None, lambda each: each.tried, leaves=1, least=14),
    Column("state", "state", lambda each: STATE_ORDER.index(each.state), lambda each: each.state),
    Column(
        "val",
        "val_accuracy",
        lambda each: each.val_accuracy,
        lambda each: "" if each.val_accuracy is None else percent(each.val_accuracy),
        descends=True,
    ),
    Column(
        "epoch",
        "epoch",
        lambda each: each.epoch,
        lambda each: f"{each.epoch}/{each.num_epochs}" if each.num_epochs is not None else str(each.epoch or ""),
        descends=True,
    ),
    Column(
        "images/s",
        "images_per_second",
        lambda each: each.images_per_second or None,
        lambda each: f"{each.images_per_second:,.0f}" if each.images_per_second else "",
        descends=True,
        leaves=4,
    ),
    Column(
        "left",
        "seconds_left",
        lambda each: each.seconds_left,
        lambda each: "" if each.seconds_left is None else duration(each.seconds_left),
        leaves=2,
    ),
    Column(
        "attempts",
        "num_attempts",
        lambda each: each.num_attempts,
        lambda each: str(each.num_attempts or ""),
        descends=True,
        leaves=5,
    ),
    Column("where", "where", lambda each: _where(each) or None, _where, leaves=3),
    Column("run", "path", lambda each: str(each.path)),
    Column("test", "test_accuracy", lambda each: each.test_accuracy, descends=True),
    Column("val loss", "val_loss", lambda each: each.val_loss),
    Column("why", "why", lambda each: each.why or None),
    Column("started", "started", lambda each: each.started or None, descends=True),
)
_SHOWN = tuple(column for column in COLUMNS if column.text is not None)
JSON_KEYS = (
    *("path", "state", "why", "epoch", "num_epochs", "step", "val_accuracy", "best_epoch", "val_loss"),
    *("test_accuracy", "images_per_second", "seconds_left", "num_attempts", "where", "job", "started", "is_exact"),
    *("tried",),
)
"""The keys of a run in JSON: attributes of `RunSummary`. A later release may add keys; it keeps these."""


def sort_runs(summaries: Sequence[RunSummary], key: str | None) -> list[RunSummary]:
    """The runs in the order of a column, those without a value last; None: the newest first.

    Raises:
        UserError: there is no such column.
    """
    name = (key or "started").strip()
    column = next((each for each in COLUMNS if name in (each.key, each.header)), None)
    if column is None:
        legal = [each.key for each in COLUMNS]
        near = difflib.get_close_matches(name, legal, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"--sort {name}: no such column.{hint} Legal: {', '.join(legal)}.")
    value = column.value
    ordered = sorted((each for each in summaries if value(each) is not None), key=value, reverse=column.descends)
    return [*ordered, *(each for each in summaries if value(each) is None)]


def to_json(summary: RunSummary) -> dict[str, Any]:
    """A run as plain values, with the keys `JSON_KEYS`; what is not known is None."""
    values = {key: getattr(summary, key) for key in JSON_KEYS}
    return values | {"path": str(summary.path)}


def count_states(summaries: Sequence[RunSummary]) -> str:
    """How many runs are in each state: `3 runs: 1 running, 2 finished`."""
    counts = Counter(each.state for each in summaries)
    parts = ", ".join(f"{counts[state]} {state}" for state in STATE_ORDER if counts[state])
    return f"{len(summaries):,} run{'' if len(summaries) == 1 else 's'}: {parts}"


def table_lines(summaries: Sequence[RunSummary], root: Path, width: int | None) -> list[Text]:
    """The table as lines, the header first.

    Args:
        summaries: one or more runs, in their order.
        root: names are shown relative to this folder.
        width: in columns of the terminal. Names and reasons are cut off at it, and columns that do not fit are left
            out. None: as wide as needed.
    """
    names = [_name(each, root) for each in summaries]
    shown = [column for column in _SHOWN if any(column.text(each) for each in summaries if column.text)]
    cells = {column.key: [column.text(each) for each in summaries] for column in shown if column.text}
    widths = {each.key: max(cell_len(each.header), *map(cell_len, map(one_line, cells[each.key]))) for each in shown}
    name_width = max(3, *map(cell_len, names))
    left_out: list[str] = []
    if width is not None:
        name_width, shown, left_out = _fit(name_width, shown, widths, width)
    used = name_width + sum(GAP + widths[column.key] for column in shown)
    header = _row("run", name_width, [(each.header, widths[each.key], "") for each in shown], "bold")
    header.rstrip()
    rows = [header]
    for number, (name, summary) in enumerate(zip(names, summaries, strict=True)):
        parts = [
            (
                _cut(one_line(cells[each.key][number]), widths[each.key], keeps_end=True),
                widths[each.key],
                STYLES[summary.state] if each.key == "state" else "",
            )
            for each in shown
        ]
        line = _row(_cut(name, name_width, keeps_end=True), name_width, parts, "")
        rows += _with_reason(line, one_line(summary.why), used, width)
    if left_out:
        rows.append(Text(f"not shown, for lack of width: {', '.join(left_out)}", "dim"))
    return rows


def _fit(
    name_width: int, shown: list[Column], widths: dict[str, int], width: int
) -> tuple[int, list[Column], list[str]]:
    """(columns for the names, the columns of the table that fit, those that are left out). Narrows `widths`."""
    left_out: list[str] = []
    while True:
        room = width - sum(GAP + widths[column.key] for column in shown)
        droppable = [column for column in shown if column.leaves]
        if room >= min(name_width, LEAST_NAME) or not droppable:
            return max(1, min(name_width, room)), shown, left_out
        first = max(droppable, key=lambda column: column.leaves)
        narrow = widths[first.key] - (min(name_width, LEAST_NAME) - room)
        if first.least and narrow >= first.least:
            widths[first.key] = narrow
            continue
        shown = [column for column in shown if column is not first]
        left_out.append(first.header)


def _row(name: str, name_width: int, parts: Sequence[tuple[str, int, str]], style: str) -> Text:
    line = Text(set_cell_size(name, name_width), style)
    for text, width, own in parts:
        line.append(" " * GAP)
        line.append(set_cell_size(text, width), own or None)
    return line


def _with_reason(line: Text, why: str, used: int, width: int | None) -> list[Text]:
    """A row and its reason, beside it where there is room for it."""
    line = line.copy()
    if not why or width is None or used + GAP + min(LEAST_WHY, cell_len(why)) <= width:
        line.append(f"{' ' * GAP}{why if width is None else _cut(why, width - used - GAP)}" if why else "")
        line.rstrip()
        return [line]
    line.rstrip()
    return [line, Text(f"    {_cut(why, width - 4)}", "dim")]


def _name(summary: RunSummary, root: Path) -> str:
    path = summary.path
    name = os.path.relpath(path, root) if path != root else str(path)
    return one_line(name)


def _cut(text: str, width: int, *, keeps_end: bool = False) -> str:
    """Text of at most `width` columns, with … for what is missing: at the end, or in the middle."""
    if cell_len(text) <= width:
        return text
    if width < 8 or not keeps_end:
        return f"{set_cell_size(text, max(0, width - 1)).rstrip()}…"
    tail = text[-(width // 2) :]
    while cell_len(tail) > width // 2:
        tail = tail[1:]
    return f"{set_cell_size(text, width - 1 - cell_len(tail))}…{tail}"
