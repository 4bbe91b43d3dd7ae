"""A division written down: a CSV of path and split, which later runs read, so that no photo changes its side."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from signs_dist.data.locks import locked
from signs_dist.data.names import SPLITS
from signs_dist.errors import UserError
from signs_dist.files import explained, write_text

HEADER = ("path", "split")
COPY = "division.csv"
"""Its copy in a run folder, with the images of that run."""


def file_of(folder: Path, roots: Sequence[Path], facts: Mapping[str, object]) -> Path:
    """The file of a division: the names of its roots, and a key of their places and of what decides the division.

    Args:
        folder: data.split_folder.
        roots: folders or tables.
        facts: shares, seed, groups, labels and the arguments of a reader.
    """
    places = sorted(str(root.resolve()) for root in roots)
    key = hashlib.sha256(json.dumps([places, facts], sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()
    name = "-".join(root.resolve().name.partition(".")[0] or "root" for root in roots)
    return folder / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)[:60].strip('-') or 'images'}-{key[:10]}.csv"


def to_text(split_of: Mapping[str, str]) -> str:
    """The text of a file, sorted by path."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(sorted(split_of.items()))
    return stream.getvalue()


def read_division(path: Path) -> dict[str, str] | None:
    """name → split; None if there is no such file.

    Raises:
        UserError: the file cannot be read, or is no division.
    """
    advice = (
        "Correct the line, or restore the file: it keeps images on their sides. Without it they are divided again: "
        f"rm {path}"
    )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise explained(error, path, "open") from error
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text. {advice}") from None
    split_of: dict[str, str] = {}
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        if tuple(next(reader, ())) != HEADER:
            raise UserError(f"{path}:1: a division begins with the line {','.join(HEADER)}. {advice}")
        for row in reader:
            if not row:
                continue
            if len(row) != len(HEADER) or row[1] not in SPLITS:
                raise UserError(f"{path}:{reader.line_num}: {','.join(row)} is no path with {_any_of()}. {advice}")
            if split_of.setdefault(row[0], row[1]) != row[1]:
                raise UserError(f"{path}:{reader.line_num}: {row[0]} is in two splits. {advice}")
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}. {advice}") from None
    return split_of


def _any_of() -> str:
    return f"{', '.join(SPLITS[:-1])} or {SPLITS[-1]}"


def agree(
    path: Path,
    names: Sequence[str],
    decide: Callable[[Mapping[str, str]], Mapping[str, str]],
    *,
    tell: Callable[[str], None] | None = None,
) -> dict[str, str]:
    """The split of each name, as the file says; what is not in it is decided and added, by one process at a time.

    Args:
        path: the file. It is made, with its folder, if it is missing.
        names: of all images.
        decide: called with name → split of those in the file; it returns the split of all `names`. Names that are gone
            stay in the file: an image that comes back is on the side that it was on.
        tell: gets a line when this waits long for another process.

    Raises:
        UserError: the file is no division, or cannot be written.
    """
    known = read_division(path)
    if known is None or any(name not in known for name in names):  # a whole file needs no permission to write
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with locked(path.with_name(f".{path.stem}.lock"), f"divides the images of {path.name}", tell=tell):
                known = read_division(path) or {}
                if any(name not in known for name in names):
                    decided = decide(known)
                    known.update({name: split for name, split in decided.items() if name not in known})
                    write_text(path, to_text(known))
        except OSError as error:
            described = explained(error, path)
            told = described if isinstance(described, UserError) else f"cannot write {path}: {error.strerror}."
            raise UserError(f"{told} Type: data.split_folder=FOLDER") from error
    return {name: known[name] for name in names}


def shown_place(path: Path) -> str:
    """A path for a line: relative to the current folder where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except (ValueError, OSError):
        return str(path)
