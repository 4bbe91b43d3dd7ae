"""Choices of trials in the user's cache folder: a file for each question, in which the question stands as well.

A file that cannot be read, that is broken, of another form, or of another user is ignored, and written again. A folder
that cannot be written keeps nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.errors import UserError
from signs_dist.files import written_aside
from signs_dist.tuning.choice import Choice

VERSION = 1
"""Of the files' form, and of the way in which trials choose."""
LARGEST_BYTES = 1 << 20
Question = Mapping[str, Any]
"""All that the choice depends on, as values of JSON: the machine, the software, the network, the batch."""


def kept_path(folder: Path, question: Question) -> Path:
    """The file of a question below the user's cache folder."""
    return folder / "autotune" / f"{hashlib.sha256(_text(question).encode()).hexdigest()[:16]}.json"


def read_kept(folder: Path, question: Question, counts: Sequence[int]) -> Choice | None:
    """The choice that is kept for a question; None if there is none that can be used.

    Args:
        folder: the user's cache folder.
        question: what was asked.
        counts: the numbers of threads that may be chosen.
    """
    try:
        content = json.loads(_read_own(kept_path(folder, question)))
    except (OSError, ValueError, RecursionError):  # of ValueError: no JSON, no UTF-8
        return None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        return None
    if content.get("question") != json.loads(_text(question)):
        return None
    found = content.get("choice")
    if not isinstance(found, dict) or found.keys() != {field.name for field in dataclasses.fields(Choice)}:
        return None
    choice = Choice(**found)
    return choice if _is_legal(choice, counts) else None


def write_kept(folder: Path, question: Question, choice: Choice) -> bool:
    """Keep a choice. Two runs may do so at once: each writes a whole file.

    Returns:
        Whether it is kept: not where the folder cannot be written or the disk is full.
    """
    path = kept_path(folder, question)
    content = {"version": VERSION, "question": question, "choice": dataclasses.asdict(choice)}
    with contextlib.suppress(OSError, UserError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with written_aside(path) as aside:
            aside.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return True
    return False


def _text(question: Question) -> str:
    return json.dumps(question, sort_keys=True)


def _read_own(path: Path) -> str:
    """The text of a regular file of this user. A link or a pipe that another user has put there is not opened.

    Raises:
        OSError: it cannot be read, or is none.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, encoding="utf-8") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_size > LARGEST_BYTES:
            raise PermissionError(f"{path} is no file of this user")
        return file.read()


def _is_legal(choice: Choice, counts: Sequence[int]) -> bool:
    are_numbers = all(type(value) is int for value in (choice.num_threads, choice.num_ways))
    is_factor = isinstance(choice.factor, float) and math.isfinite(choice.factor) and choice.factor >= 1
    return are_numbers and is_factor and choice.num_threads in counts and type(choice.channels_last) is bool
