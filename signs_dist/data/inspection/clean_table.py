"""A table of the photos that can be used, written where the folder as it is cannot be trained on."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from signs_dist.data.inspection.inspecting import Inspection
from signs_dist.data.inspection.listed import ListedPhoto
from signs_dist.data.inspection.near_copies import join_pairs


@dataclass(frozen=True)
class TableRow:
    """A photo of the table. The columns of the file are these fields, those that are None in all rows left out."""

    path: str
    """Below the source's folder."""
    label: str
    split: str | None = None
    group: str | None = None
    """Photos with one group are copies, or nearly: they stay on one side of a division."""


def reasons_for_table(found: Inspection) -> list[str]:
    """Why the source cannot be trained on as it is; empty if it can."""
    reasons = []
    num_unreadable = len(found.bad)
    if num_unreadable:
        reasons.append(f"it leaves out what cannot be read or has no class ({num_unreadable:,})")
    num_contradicting = len(_contradicting(found))
    if num_contradicting:
        reasons.append(f"it leaves out what is in two classes ({num_contradicting:,})")
    if "val" not in found.listed.splits and (found.near.within or found.near.across):
        reasons.append("it keeps nearly equal photos on one side")
    return reasons


def clean_rows(found: Inspection) -> list[TableRow]:
    """The photos that can be used, with their classes and splits; with groups if they are still to be divided.

    Photos in two classes are left out.
    """
    contradicting = _contradicting(found)
    photos = [photo for photo in found.photos if photo.path not in contradicting]
    is_divided = "val" in found.listed.splits
    group_of = {} if is_divided else _groups(found, photos)
    return [
        TableRow(
            photo.path,
            photo.class_name,
            photo.split,
            group_of.get(photo.path, photo.group or photo.path) if group_of else None,
        )
        for photo in photos
    ]


def table_text(rows: Sequence[TableRow], root: Path, folder: Path) -> str:
    """The rows as CSV, in UTF-8 where it is written.

    Args:
        rows: from `clean_rows`.
        root: the folder that their paths begin at.
        folder: where the table is written: photos below it have paths relative to it, others absolute ones.
    """
    columns = ["path", "label"]
    columns += [name for name in ("split", "group") if any(getattr(row, name) is not None for row in rows)]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    above = path_from(folder, root)
    prefix = "" if above == "." else f"{above}/"
    writer.writerows([prefix + row.path, *(getattr(row, name) for name in columns[1:])] for row in rows)
    return stream.getvalue()


def path_from(folder: Path, target: Path) -> str:
    """The path of `target` as a table in `folder` has it: relative if it lies below, else absolute."""
    folder, target = folder.absolute(), Path(os.path.normpath(target.absolute()))
    return target.relative_to(folder).as_posix() if folder in (target, *target.parents) else target.as_posix()


def _contradicting(found: Inspection) -> set[str]:
    return {path for group in found.duplicates.conflicting for path in group}


def _groups(found: Inspection, photos: Sequence[ListedPhoto]) -> dict[str, str]:
    """Path → group of the photos that belong together: as the source says, and copies, exact or near.

    Photos that belong to no other are left out. Empty if all are.
    """
    number_of = {photo.path: number for number, photo in enumerate(photos)}
    members: dict[str, list[int]] = {}
    for number, photo in enumerate(photos):
        if photo.group is not None:
            members.setdefault(photo.group, []).append(number)
    copies = [*found.duplicates.across, *found.duplicates.within, *found.near.across, *found.near.within]
    together = [*members.values(), *([number_of[path] for path in group if path in number_of] for group in copies)]
    pairs = [(numbers[0], other) for numbers in together for other in numbers[1:]]
    return {
        photos[number].path: photos[group[0]].group or f"copies {place}"
        for place, group in enumerate(join_pairs(pairs), 1)
        for number in group
    }
