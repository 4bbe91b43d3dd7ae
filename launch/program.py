"""How programs and folders are typed: `python -m` with a module's full name, and a path in a command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from signs_dist.environment.installation import spell
from signs_dist.errors import EXIT_USAGE


def program(module: str) -> tuple[str, str]:
    """Arguments of Python that start a module of this package, such as ("-m", "launch.job") for `job`.

    The full name is made here alone, so that the package may be installed under another name.
    """
    return ("-m", f"{__name__.rpartition('.')[0]}.{module}")


def typed(path: Path | str) -> str:
    """A path as a person types it in a command: quoted, and so that it is not taken for a flag."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def refuse_typed(arguments: Sequence[str], num_arguments: int, command: str) -> None:
    """End a program that another program of this package starts, if a person typed it: without what it is given there.

    Args:
        arguments: of the program. The first one that it is given is a folder.
        num_arguments: the fewest that it is given.
        command: the command whose part it is, such as `local`.
    """
    if len(arguments) < num_arguments or arguments[0].startswith("-"):
        print(f"error: this program is a part of {spell(command)}, which starts it. Type that.", file=sys.stderr)
        sys.exit(EXIT_USAGE)
