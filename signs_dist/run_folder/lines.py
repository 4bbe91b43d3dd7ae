"""Files of JSON lines: each line is added whole, and a file that was torn loses no other line than the torn one.

A kill, a full disk or a lost machine may leave a last line without its end, or with NUL bytes. The next line is then
written below it. Readers omit what is no JSON object.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signs_dist.errors import UserError
from signs_dist.files import explained

NEWLINE = b"\n"
_AROUND = b"\0 \t\r\f\v"
"""Stripped from a line: a lost machine may leave NUL bytes, an editor the line ends of Windows."""


def to_line(values: Mapping[str, Any]) -> bytes:
    """A line of JSON as UTF-8, with its end. Raises ValueError for NaN and infinity."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    # File names that are not UTF-8 hold lone surrogates, which JSON writes as escapes such as \udcff.
    return text.encode("utf-8", "backslashreplace") + NEWLINE


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Add one line at the end of a file, below a line that was torn. After an error the file is as it was.

    Raises:
        UserError: the disk is full, the file cannot be written, or `path` is a folder.
        ValueError: a value is NaN or infinite.
    """
    line = to_line(values)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _append(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise explained(error, path) from error


def _append(descriptor: int, line: bytes) -> None:
    size = os.fstat(descriptor).st_size  # 0 for a device
    if size and os.pread(descriptor, 1, size - 1) != NEWLINE:
        line = NEWLINE + line
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:  # a full disk may take a part of a line
        written = len(line) - len(rest)
        if written and os.fstat(descriptor).st_size == size + written:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
        raise


def read_raw_lines(path: Path) -> list[tuple[int, bytes]]:
    """(number, text) of each line that is not blank, without its end; numbers count from 1. None if there is no file.

    Raises:
        UserError: `path` is a folder, a pipe or a device, or cannot be read.
    """
    try:
        # Looked at before it is opened: to open a pipe would wait for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path} is not a file. Remove it, or choose another folder.")
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from error
    # At newlines only: `splitlines` would cut at characters such as U+2028, which JSON may hold.
    return [(number, raw.strip(_AROUND)) for number, raw in enumerate(content.split(NEWLINE), 1) if raw.strip()]


def parse(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line; None if it is none."""
    try:
        value = json.loads(line.decode("utf-8", "replace"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects in the lines of a file; other lines are omitted. Raises as `read_raw_lines`."""
    return [value for _, line in read_raw_lines(path) if (value := parse(line)) is not None]


def describe_damage(path: Path) -> str:
    """Which lines of a file are no JSON objects, for people; "" if all are. Raises as `read_raw_lines`."""
    damaged = [str(number) for number, line in read_raw_lines(path) if parse(line) is None]
    if not damaged:
        return ""
    more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
    return f"{path.name}: line{'s' if len(damaged) > 1 else ''} {', '.join(damaged[:3])}{more} cannot be read: omitted"
