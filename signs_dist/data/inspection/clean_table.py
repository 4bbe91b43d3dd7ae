"""A table of the photos that can be used, written where the folder as it is cannot be trained on."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from signs_dist.data.inspection.inspecting import Inspection
from signs_dist.data.inspection.near_copies import join_pairs
from signs_dist.data.photos.split import stratified_val


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
        reasons.append(f"it leaves out {num_unreadable:,} that cannot be read or have no class")
    num_contradicting = len(_contradicting(found))
    if num_contradicting:
        reasons.append(f"it leaves out {num_contradicting:,} that are in two classes")
    if found.listed.splits and "val" not in found.listed.splits:
        reasons.append("it takes a fifth of train for val")
    if not found.listed.splits and (found.near.within or found.near.across):
        reasons.append("it keeps nearly equal photos on one side")
    return reasons


def clean_rows(found: Inspection) -> list[TableRow]:
    """The photos that can be used, with their classes and splits; with groups if they are still to be divided.

    Photos in two classes are left out. Where a split has no val, each class gives it a fifth of its training photos.
    """
    contradicting = _contradicting(found)
    photos = [photo for photo in found.photos if photo.path not in contradicting]
    copies = _groups(found, [photo.path for photo in photos])
    if not found.listed.splits:
        group_of = {path: f"copies {number}" for number, group in enumerate(copies, 1) for path in group}
        return [
            TableRow(photo.path, photo.class_name, group=group_of.get(photo.path, photo.path) if group_of else None)
            for photo in photos
        ]
    val: set[str] = set()
    if "val" not in found.listed.splits:
        classes: dict[str, list[str]] = {}
        for photo in photos:
            if photo.split == "train":
                classes.setdefault(photo.class_name, []).append(photo.path)
        val = stratified_val(classes, copies)
    return [TableRow(p.path, p.class_name, "val" if p.path in val else p.split) for p in photos]


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


def _groups(found: Inspection, paths: Sequence[str]) -> list[list[str]]:
    """Photos that are copies of each other, exactly or nearly."""
    number_of = {path: number for number, path in enumerate(paths)}
    groups = [*found.duplicates.across, *found.duplicates.within, *found.near.across, *found.near.within]
    pairs = []
    for group in groups:
        known = [number_of[path] for path in group if path in number_of]
        pairs += [(known[0], other) for other in known[1:]]
    return [[paths[number] for number in group] for group in join_pairs(pairs)]
