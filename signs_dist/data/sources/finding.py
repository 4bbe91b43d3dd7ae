"""Files that a table names without their folder or suffix, as competitions do: `000bec18` for train/000bec18.jpg."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from signs_dist.data.images import IMAGE_SUFFIXES
from signs_dist.data.names import listed

_FEW_IN_FOLDER = 50
"""Files of one folder that are looked for one by one; for more, the folder is listed."""


@dataclasses.dataclass(frozen=True)
class Found:
    """Where files are."""

    place_of: Mapping[str, str]
    """Name in the table → path of its only file."""
    several: Mapping[str, tuple[str, ...]]
    """Name in the table → paths of all its files, where there are two or more."""


def missing_rows(names: Sequence[str], folder: Path) -> list[int]:
    """The rows whose path leads to no file, sorted. Paths are relative to `folder`, or absolute."""
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows_of.setdefault(name.rpartition("/")[0], []).append(row)
    missing: list[int] = []
    for inner, rows in rows_of.items():
        # "" stands for the table's folder, and for / where the path is absolute.
        place = folder / inner if inner else Path("/") if names[rows[0]].startswith("/") else folder
        if len(rows) > _FEW_IN_FOLDER:
            try:
                present = {entry.name for entry in os.scandir(place)}
            except OSError:
                present = set()
            missing += [row for row in rows if names[row].rpartition("/")[2] not in present]
        else:
            missing += [row for row in rows if not os.path.lexists(folder / names[row])]
    return sorted(missing)


def match_files(wanted: Sequence[str], images: Sequence[str]) -> Found:
    """Find names among images: with a folder before them, an image's suffix after them, or both.

    Where one folder and suffix fit all names, as train/ and .jpg, they are taken, though others fit some of the names.

    Args:
        wanted: names from a table.
        images: paths of all images below the table's folder, with forward slashes.
    """
    fitting: dict[str, list[tuple[str, str]]] = {name: [] for name in wanted}
    by_last: dict[str, list[str]] = {}
    for name in fitting:
        by_last.setdefault(name.rpartition("/")[2], []).append(name)
    for path in images:
        last = path.rpartition("/")[2]
        stem, dot, suffix = last.rpartition(".")
        endings = [(last, "")] + ([(stem, dot + suffix)] if (dot + suffix).lower() in IMAGE_SUFFIXES else [])
        for ending, after in endings:
            for name in by_last.get(ending, ()):
                before = path.removesuffix(f"{name}{after}")
                if before != path and (not before or before.endswith("/")):
                    fitting[name].append((before, after))
    common = set.intersection(*(set(pairs) for pairs in fitting.values())) if fitting else set()
    if len(common) == 1:
        ((before, after),) = common
        return Found({name: f"{before}{name}{after}" for name in fitting}, {})
    places = {name: tuple(f"{before}{name}{after}" for before, after in pairs) for name, pairs in fitting.items()}
    return Found(
        {name: paths[0] for name, paths in places.items() if len(paths) == 1},
        {name: paths for name, paths in places.items() if len(paths) > 1},
    )


def found_note(place_of: Mapping[str, str]) -> str:
    """What is said of paths that were found."""
    name, place = next(iter(place_of.items()))
    what = "path was" if len(place_of) == 1 else "paths were"
    return f"{len(place_of):,} {what} found by the names of files, such as {name} as {place}"


def places_advice(places: Sequence[str]) -> str:
    """What to do about a name that is in one other place, or in several."""
    verb = "is" if len(places) == 1 else "are"
    return f"There {verb} {listed(list(places), 3)}: write the paths with their folder and suffix."
