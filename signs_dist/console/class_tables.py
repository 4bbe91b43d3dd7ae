"""Tables over the classes of a data set that fit the screen: the confusion matrix, and the numbers of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from signs_dist.console.screen import percent, plain_text

MAX_CLASSES = 20
"""With more classes than this, the most confused pairs are shown instead of the matrix."""
NUM_SHOWN = 10
"""Rows of the tables that show a part: the most confused pairs, and the classes with the lowest accuracies."""
_GAP = 2
"""Columns of space beside each cell."""
_SHORTEST_NAME = 8
"""A matrix with numbers does not fit if less than this is left for the names of its rows."""


def class_tables(
    title: str,
    classes: Sequence[str],
    confusion: Sequence[Sequence[int]],
    accuracies: Sequence[float],
    width: int,
) -> list[Table]:
    """The confusion matrix if it fits into `width` columns, else its most confused pairs.

    The columns of the matrix have the names of the classes, or their numbers where the names are too wide.

    Args:
        title: the first line.
        classes: C names.
        confusion: [C, C], images by (true class, predicted class).
        accuracies: C shares of right images, 0..1; NaN for a class without images.
        width: columns of the screen.
    """
    if len(classes) <= MAX_CLASSES:
        for has_numbers in (False, True):
            table = _matrix(title, classes, confusion, accuracies, width, has_numbers=has_numbers)
            if table is not None:
                return [table]
    return [
        _confused_pairs(title, classes, confusion, width),
        _hard_classes(classes, confusion, accuracies, width),
    ]


def _matrix(
    title: str,
    classes: Sequence[str],
    confusion: Sequence[Sequence[int]],
    accuracies: Sequence[float],
    width: int,
    *,
    has_numbers: bool,
) -> Table | None:
    """The matrix; None if it does not fit. Rows are true classes, columns are predicted classes.

    With `has_numbers`, the rows have numbers, the columns have these numbers instead of names, and the names of the
    rows are shortened.
    """
    numbers = [str(number) for number in range(1, len(classes) + 1)]
    header = [*(numbers if has_numbers else classes), "images", "right"]
    rows = [
        [*(str(count) if count else "·" for count in counts), str(sum(counts)), percent(accuracy)]
        for counts, accuracy in zip(confusion, accuracies, strict=True)
    ]
    space = width - _GAP - _columns_needed([header, *rows])
    widest = max(_cell(name).cell_len for name in (*classes, "class"))
    if has_numbers:
        space -= len(numbers[-1]) + _GAP
    if space < (min(widest, _SHORTEST_NAME) if has_numbers else widest):
        return None
    what = "predicted class by its number" if has_numbers else "predicted"
    table = Table(title=plain_text(title), title_justify="left", caption=f"rows: true class, columns: {what}", box=None)
    for name in [*(["#"] if has_numbers else []), "class", *header]:
        table.add_column(_cell(name), justify="right", no_wrap=True)
    for true, (number, name, row) in enumerate(zip(numbers, classes, rows, strict=True)):
        texts = [_cell(cell) for cell in row]
        for predicted, count in enumerate(confusion[true]):
            texts[predicted].stylize("bold" if predicted == true else "red" if count else "dim")
        table.add_row(*([number] if has_numbers else []), shortened(name, space), *texts)
    return table


def most_confused(confusion: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """(true class, predicted class, images) of all kinds of mistakes, the most frequent first."""
    pairs = [
        (true, predicted, count)
        for true, counts in enumerate(confusion)
        for predicted, count in enumerate(counts)
        if count and true != predicted
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))


def _confused_pairs(title: str, classes: Sequence[str], confusion: Sequence[Sequence[int]], width: int) -> Table:
    """The pairs of classes with the most images of one that were taken for the other."""
    pairs = most_confused(confusion)
    shown = pairs[:NUM_SHOWN]
    caption = f"{len(shown)} most confused pairs of {len(pairs):,}" if pairs else "no image was taken for another class"
    table = Table(title=plain_text(title), title_justify="left", caption=caption, box=None)
    space = (width - len("images") - len("of its images") - 4 * _GAP) // 2
    for name in ("class", "taken for", "images", "of its images"):
        table.add_column(name, justify="left" if name == "taken for" else "right", no_wrap=True)
    for true, predicted, count in shown:
        share = percent(count / sum(confusion[true]))
        table.add_row(shortened(classes[true], space), shortened(classes[predicted], space), f"{count:,}", share)
    return table


def _hard_classes(
    classes: Sequence[str], confusion: Sequence[Sequence[int]], accuracies: Sequence[float], width: int
) -> Table:
    """The classes with images that have the lowest accuracies."""
    tried = [row for row in range(len(classes)) if sum(confusion[row])]
    shown = sorted(tried, key=lambda row: (accuracies[row], row))[:NUM_SHOWN]
    absent = len(classes) - len(tried)
    rest = f"; {absent:,} without images" if absent else ""
    table = Table(caption=f"{len(shown)} lowest accuracies of {len(classes):,} classes{rest}", box=None)
    space = width - len("images") - len("100.0 %") - 3 * _GAP
    for name in ("class", "images", "right"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in shown:
        table.add_row(shortened(classes[row], space), f"{sum(confusion[row]):,}", percent(accuracies[row]))
    return table


def count_table(counts: Mapping[str, Mapping[str, int]], width: int) -> Table:
    """Images of each class (columns) in each split (rows); the other way round where that needs more than `width`.

    Of more than `MAX_CLASSES` classes in rows, the smallest are shown. The last row has the sums over all classes.

    Args:
        counts: for each split the number of images of each class. All splits have the same classes.
        width: columns of the screen.
    """
    classes = list(next(iter(counts.values()), {}))
    sums = {split: sum(row.values()) for split, row in counts.items()}
    header = ["images", *classes, "all"]
    rows = [[split, *(f"{count:,}" for count in row.values()), f"{sums[split]:,}"] for split, row in counts.items()]
    if _columns_needed([header, *rows]) <= width:
        return _plain_table(header, rows)
    totals = {name: sum(row[name] for row in counts.values()) for name in classes}
    shown = classes if len(classes) <= MAX_CLASSES else sorted(classes, key=lambda name: totals[name])[:NUM_SHOWN]
    caption = None if shown is classes else f"the {NUM_SHOWN} smallest of {len(classes):,} classes"
    numbers = [*([f"{row[name]:,}" for row in counts.values()] + [f"{totals[name]:,}"] for name in shown)]
    numbers.append([*(f"{number:,}" for number in sums.values()), f"{sum(sums.values()):,}"])
    header = [*counts, "all"]
    space = width - _GAP - _columns_needed([header, *numbers])
    names = [*(shortened(name, space).plain for name in shown), "all"]
    return _plain_table(["images", *header], [[name, *row] for name, row in zip(names, numbers, strict=True)], caption)


def _columns_needed(rows: Sequence[Sequence[str]]) -> int:
    widths = [max(_cell(cell).cell_len for cell in cells) for cells in zip(*rows, strict=True)]
    return sum(widths) + _GAP * len(widths)


def _plain_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str | None = None) -> Table:
    """A table of `rows`, the first column at the left, the others at the right."""
    table = Table(box=None, caption=caption)
    for number, name in enumerate(header):
        table.add_column(_cell(name), justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(text: str) -> Text:
    """Text on one line, without control codes."""
    return plain_text(text.replace("\n", "\\n"))


def shortened(name: str, space: int) -> Text:
    """A name in at most `space` columns, which are at least 5. The middle of a longer name is replaced by `…`."""
    text = _cell(name)
    if text.cell_len <= space:
        return text
    end = max(1, (space - 1) // 2)
    head, tail = text.copy(), Text(text.plain[-end:])
    while tail.cell_len > end:
        tail = Text(tail.plain[1:])
    head.truncate(max(1, space - 1 - tail.cell_len))
    return Text(f"{head.plain}…{tail.plain}")
