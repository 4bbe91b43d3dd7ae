"""Which column of a table is the path, the class, the split. Pure functions."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from signs_dist.data.names import listed
from signs_dist.errors import UserError

if TYPE_CHECKING:
    from signs_dist.config.data_settings import ColumnsConfig

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "path": (
        *("path", "file_path", "filepath", "file_name", "filename", "file", "image_path", "imagepath", "image_file"),
        *("image_name", "imagename", "image", "img_path", "img_name", "img_file", "img", "photo_path", "photo"),
        *("picture", "image_id", "imageid", "img_id", "files", "paths", "images", "photos", "id"),
    ),
    "label": (
        *("label", "class", "target", "category", "label_name", "class_name", "classname", "category_name"),
        *("class_label", "labels", "classes", "targets", "categories", "y"),
    ),
    "split": ("split", "set", "subset", "partition", "data_set", "dataset", "phase", "data_split"),
}
"""Use → names of columns, those that are taken first before the others; in any case, with blanks or hyphens too."""
_IDS = ("image_id", "imageid", "img_id", "id")
LIKE_GROUPS = (
    *("group", "group_id", "person", "person_id", "patient", "patient_id", "patientid", "subject", "subject_id"),
    *("participant", "participant_id", "user", "user_id", "individual", "individual_id"),
)
"""Names of columns that are probably groups: a note says how to use them."""


class MissingColumnError(UserError):
    """A table has no column for the paths or the classes."""


def choose_columns(
    columns: Sequence[str], given: ColumnsConfig, where: object, *, needs_label: bool = True
) -> dict[str, str]:
    """Use (path, label, split, group) → column. `label` and `split` may be missing, `group` is there where it is given.

    Args:
        columns: the names in the file.
        given: data.columns.
        where: the table, for messages.
        needs_label: False where the class comes from the path.

    Raises:
        UserError: there is no column for the path or the class, or a given one does not exist.
    """
    chosen = {}
    for use, name in (("path", given.path), ("label", given.label), ("split", given.split), ("group", given.group)):
        if name:
            chosen[use] = _given(columns, use, name, where)
    for use, names in USUAL_NAMES.items():
        if use in chosen or (use == "split" and given.split == "") or (use == "label" and not needs_label):
            continue
        found = _usual(columns, names, set(chosen.values()))
        if found is not None:
            chosen[use] = found
    if needs_label and len(columns) == 2 and "label" not in chosen and _plain(chosen.get("path", "")) in _IDS:
        # As competitions write it: id,breed. The other column of a table of paths may hold texts.
        chosen["label"] = next(name for name in columns if name != chosen["path"])
    for use in ("path", "label") if needs_label else ("path",):
        if use not in chosen:
            what = "paths" if use == "path" else "classes"
            raise MissingColumnError(
                f"{where}: no column with the images' {what}, such as {', '.join(USUAL_NAMES[use][:4])}. It has "
                f"{_all(columns)}. Type data.columns.{use}=NAME, or rename the column."
            )
    return chosen


def group_hint(columns: Sequence[str], chosen: Mapping[str, str]) -> str | None:
    """A line on a column that probably tells groups; None without one, or where groups are given."""
    found = _usual(columns, LIKE_GROUPS, set(chosen.values())) if "group" not in chosen else None
    if found is None:
        return None
    return f"images with one {found} may be on both sides; to keep them together: data.columns.group={found}"


def _given(columns: Sequence[str], use: str, name: str, where: object) -> str:
    if name in columns:
        return name
    plain = {_plain(column): column for column in columns}
    if _plain(name) in plain:
        return plain[_plain(name)]
    near = difflib.get_close_matches(name, list(columns), n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise UserError(f"data.columns.{use}={name}: {where} has no such column.{meant} It has {_all(columns)}.")


def _usual(columns: Sequence[str], names: Sequence[str], taken: set[str]) -> str | None:
    plain = {_plain(column): column for column in reversed(columns) if column not in taken}
    return next((plain[name] for name in names if name in plain), None)


def _plain(name: str) -> str:
    return re.sub(r"[\s_.-]+", "_", name.strip().casefold())


def _all(columns: Sequence[str]) -> str:
    if len(columns) == 1:
        return f"the single column {listed(list(columns))}"
    return f"the columns {listed(list(columns), 12)}"
