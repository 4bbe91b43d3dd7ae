"""Finding run folders below a folder: those of single runs, arrays and sweeps."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from signs_dist.errors import UserError
from signs_dist.run_folder.removal import is_partly_removed, left_by_removal

MOST_LEVELS = 6
"""How deep below the given folder a run folder may be."""
_MARKS = frozenset(("checkpoints", "logs", "attempts.jsonl", "metrics.jsonl", "manifest.json", "result.json"))
"""What a run folder has beside its config.yaml."""
_NOT_BELOW = frozenset(("submit", "checkpoints", "logs", "__pycache__"))

Kind = Literal["run", "partly removed", "unreadable"]


@dataclasses.dataclass(frozen=True)
class FoundFolder:
    """A folder that was found.

    Attributes:
        path: below the folder that was searched, or that folder itself.
        kind: what it is.
        why: for an unreadable folder, the system's message.
    """

    path: Path
    kind: Kind
    why: str = ""


def find_runs(folder: Path) -> list[FoundFolder]:
    """The run folders at and below a folder, sorted by path.

    Within a run folder none is looked for. A link to a run folder counts, unless its run is found without the link;
    links to other folders are not followed. Folders whose names begin with a dot are omitted.
    """
    found = sorted(_search(folder, 0), key=lambda each: str(each.path))
    direct = {each.path.resolve() for each in found if not each.path.is_symlink()}
    return [each for each in found if not each.path.is_symlink() or each.path.resolve() not in direct]


def is_run_folder(path: Path) -> bool:
    """Whether a folder is a run's, also of a run whose job has not begun. Raises OSError if it cannot be read."""
    return _is_run(path, {entry.name for entry in os.scandir(path)})


def require_folder(folder: Path) -> None:
    """Raise `UserError` if a path is no folder, in which runs could be."""
    if not folder.is_dir():
        what = "is not a folder" if os.path.lexists(folder) else "does not exist"
        raise UserError(f"{folder} {what}. Give a folder with runs, such as runs/.")


def require_run(path: Path, *, is_removal: bool = False) -> None:
    """Raise `UserError` if a path is no run folder; for a removal, what an interrupted one has left is one as well."""
    try:
        if is_run_folder(path) or (is_removal and is_partly_removed(path)):
            return
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}. To see all runs, type: python -m signs_dist.runs") from error
    hint = "To see all runs, type: python -m signs_dist.runs"
    if (path / "array.json").is_file():
        hint = f"It is an array: name its runs, such as {path}/*"
    elif is_removal:
        hint = "Only run folders are removed. To see them, type: python -m signs_dist.runs"
    raise UserError(f"{path} is not a run folder: it has no config.yaml of a run. {hint}")


def find_named(names: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """(the run folders that are named for removal, those that do not exist any more), each once.

    A folder that does not exist beside others that do is no error: an interrupted removal of both has taken it.

    Raises:
        UserError: none of them exists, or one is no run folder.
    """
    named = [left_by_removal(_by_its_name(path)) for path in names]
    # A run that is named twice, as runs/a and runs/b/../a, is removed once. A link is not the run it leads to.
    paths = list({path.parent.resolve() / path.name: path for path in reversed(named)}.values())[::-1]
    there = [path for path in paths if os.path.lexists(path)]
    for path in there or paths:
        require_run(path, is_removal=True)
    return there, [path for path in paths if path not in there]


def _by_its_name(path: Path) -> Path:
    """The path of a folder by its own name, as for `.`; a link stays a link."""
    return path if path.name and path.name != ".." else Path(os.path.abspath(path))  # noqa: PTH100  resolve would follow


def _search(folder: Path, level: int) -> Iterator[FoundFolder]:
    if is_partly_removed(folder):
        yield FoundFolder(folder, "partly removed")
        return
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        # A folder that another user closed may hold runs; one that vanished meanwhile holds none.
        if not isinstance(error, FileNotFoundError):
            yield FoundFolder(folder, "unreadable", error.strerror or str(error))
        return
    if _is_run(folder, {entry.name for entry in entries}):
        yield FoundFolder(folder, "run")
        return
    if level == MOST_LEVELS:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name in _NOT_BELOW or not _is_folder(entry):
            continue
        path = folder / entry.name
        if not entry.is_symlink():
            yield from _search(path, level + 1)
        elif _is_run_behind(path):
            yield FoundFolder(path, "run")


def _is_run(folder: Path, names: set[str]) -> bool:
    if "config.yaml" in names:
        return not names.isdisjoint(_MARKS)
    if "lease.json" in names and "manifest.json" in names:  # killed before it wrote its config
        return True
    return "submit" in names and "array.json" not in names and (folder / "submit" / "jobs.jsonl").is_file()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_run_behind(link: Path) -> bool:
    try:
        return is_run_folder(link)
    except OSError:
        return False
