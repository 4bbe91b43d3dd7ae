"""Write what an inspection leads to: a config, with a table where the photos need one, and the pages about them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signs_dist.data.inspection.choices import Choice, choose_settings, config_text
from signs_dist.data.inspection.clean_table import TableRow, clean_rows, reasons_for_table, table_text
from signs_dist.data.inspection.inspecting import Inspection
from signs_dist.data.next_step import find_stored_size
from signs_dist.errors import UserError
from signs_dist.files import write_text

_READ_BY_TABLE = ("data.columns.", "data.label_pattern", "data.group_pattern")
"""Settings that a table of the usable photos makes superfluous: it has their result in its columns."""


@dataclass(frozen=True)
class ConfigPlan:
    """A config that trains on photos, before it is written."""

    config: Path
    table: Path | None
    """Beside the config: the photos that can be used; None if the source is trained on as it is."""
    rows: tuple[TableRow, ...]
    choices: tuple[Choice, ...]

    def files(self) -> list[Path]:
        """What is written."""
        return [self.config, *([self.table] if self.table is not None else [])]


def plan_config(found: Inspection, config: Path, given: Mapping[str, Any]) -> ConfigPlan:
    """Choose the settings, and the photos.

    Args:
        found: the photos.
        config: the file to write.
        given: settings that the user typed: how classes and groups are read, which a table of the usable photos needs
            no more.

    Raises:
        UserError: no config can train on these photos; or their table would have the name of the config or the source.
    """
    require_trainable(found)
    needs_table = found.listed.kind != "shards" and reasons_for_table(found)
    table = config.with_suffix(".csv") if needs_table else None
    if table is not None and table.absolute() in (config.absolute(), found.listed.source.absolute()):
        raise UserError(
            f"a table is written beside the config, and {table} is taken. Name another config with --write."
        )
    rows = clean_rows(found) if table is not None else []
    choices = choose_settings(
        found,
        str(table if table is not None else found.listed.source),
        given={key: value for key, value in given.items() if table is None or not key.startswith(_READ_BY_TABLE)},
        is_table=table is not None,
        has_groups=any(row.group is not None for row in rows),
        stored_size=find_stored_size(found.listed.source),
    )
    return ConfigPlan(config, table, tuple(rows), tuple(choices))


def write_config(plan: ConfigPlan, found: Inspection, *, force: bool, typed: Sequence[str] = ()) -> None:
    """Write the table, and then the config that names it. `typed` are the settings of the command, for its comment.

    Raises:
        UserError: a file exists, and `force` is not given.
    """
    refuse_existing(plan.files(), force=force)
    if plan.table is not None:
        write_text(plan.table, table_text(plan.rows, found.listed.root, plan.table.parent))
    num_photos = len(plan.rows) if plan.table is not None else len(found.photos)
    write_text(plan.config, config_text(plan.choices, found.listed.source, plan.config, num_photos, typed))


def require_data_settings(given: Iterable[str]) -> None:
    """Refuse settings that do not say what the photos are. Raises UserError."""
    others = [key for key in given if not key.startswith("data.") or key == "data.root"]
    if others:
        raise UserError(f"{others[0]} is not read here: only settings of data, without data.root. Type it for train.")


def refuse_existing(files: list[Path], *, force: bool) -> None:
    """Refuse to replace files, unless `force` is given. Raises UserError."""
    taken = [str(path) for path in files if path.exists()]
    if taken and not force:
        exist, them = ("exists", "it") if len(taken) == 1 else ("exist", "them")
        raise UserError(
            f"{' and '.join(taken)} {exist} already. Name another file with --write, or replace {them} with --force."
        )


def require_trainable(found: Inspection) -> None:
    """Refuse photos for which no config can train.

    Raises:
        UserError: a zip; shards with broken photos; no photo or a single class that can be used; no training photos.
    """
    source = found.listed.source
    if found.listed.kind == "zip":
        raise UserError(
            f"{source} is a zip, which training does not read in place. Unpack it, or build a data set from it: "
            f"python -m signs_dist.data.build --source {shlex.quote(str(source))}"
        )
    if found.listed.kind == "shards" and found.bad:
        photos = (
            "1 photo in its shards cannot" if len(found.bad) == 1 else f"{len(found.bad):,} photos in its shards cannot"
        )
        raise UserError(
            f"{source}: {photos} be read, such as {found.bad[0].path}. Remove "
            f"them from what the shards were made of, and write the shards again."
        )
    if len(found.class_counts()) < 2:
        raise UserError(
            f"{source}: a classifier needs photos of two classes or more that can be read, and there "
            f"{'is one' if found.class_counts() else 'is none'}. No config can train on them."
        )
    if found.listed.splits and "train" not in found.listed.splits:
        raise UserError(f"{source} has no training photos. No config can train on them.")
