"""The text of a config file: regular files and the pipes of a shell, up to a size that no config reaches."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from signs_dist.errors import UserError
from signs_dist.files import find_other_kind

MAX_BYTES = 2**20
"""The largest config that is read."""
_PIPES = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""Where a shell's `<(…)` and `… |` give a path. A writer is there, so that opening and reading them ends."""


def read_config_text(path: Path) -> str:
    """The text of a config file, without a byte order mark.

    Args:
        path: a regular file; or a pipe that a shell made, as /dev/stdin and `<(…)`, which is read to its end.

    Raises:
        OSError: it cannot be read, is larger than `MAX_BYTES`, or is no file.
        UnicodeDecodeError: it is not UTF-8.
    """
    is_pipe = is_shell_pipe(path)
    kind = "" if is_pipe or path == Path(os.devnull) else find_other_kind(path)
    if kind:
        raise OSError(0, f"it is {kind}")
    with path.open("rb", buffering=0) as stream:
        if os.isatty(stream.fileno()):
            raise OSError(0, "it is a terminal")
        size = os.fstat(stream.fileno()).st_size
        data = b"" if size > MAX_BYTES else _read_to_end(stream.fileno())
    if len(data) > MAX_BYTES or size > MAX_BYTES:
        raise OSError(0, f"it is larger than {MAX_BYTES:,} bytes, which no config is")
    return data.decode("utf-8-sig")


def is_shell_pipe(path: Path) -> bool:
    """Whether a path is a pipe that a shell made, which can be read once, and by this process only."""
    if not str(path).startswith(_PIPES):
        return False
    try:
        return stat.S_ISFIFO(path.stat().st_mode)
    except OSError:
        return False


def is_lost_pipe(path: Path) -> bool:
    """Whether a path is of a pipe that the shell gave to another process, such as to the torchrun that started this."""
    return str(path).startswith(_PIPES) and not path.exists()


def refuse_pipe(path: Path | None) -> None:
    """Refuse a config that several processes read, if it is a pipe. Raises `UserError`."""
    if path is not None and is_shell_pipe(path):
        raise UserError(
            f"--config {path} is a pipe, which one process can read once, and here several processes read the config. "
            f"Write it to a file, and name the file."
        )


def _read_to_end(descriptor: int) -> bytes:
    """What is left in a file or pipe, or `MAX_BYTES` and one more of it."""
    blocks: list[bytes] = []
    left = MAX_BYTES + 1
    while left > 0 and (block := os.read(descriptor, min(left, 2**16))):
        blocks.append(block)
        left -= len(block)
    return b"".join(blocks)
