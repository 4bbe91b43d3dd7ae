"""How programs and folders are typed: `python -m` with a module's full name, and a path in a command."""

from __future__ import annotations

import shlex
from pathlib import Path


def program(module: str) -> tuple[str, str]:
    """Arguments of Python that start a module of this package, such as ("-m", "launch.job") for `job`.

    The full name is made here alone, so that the package may be installed under another name.
    """
    return ("-m", f"{__name__.rpartition('.')[0]}.{module}")


def typed(path: Path | str) -> str:
    """A path as a person types it in a command: quoted, and so that it is not taken for a flag."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
