"""Python with a replayed step in scope: for `--shell`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from typing import Any, TextIO

from signs_dist.errors import EXIT_FAILED, EXIT_OK


def open_shell(scope: Mapping[str, Any], banner: str, stream: TextIO) -> int:
    """Open Python on a terminal; run what is typed into a pipe.

    IPython is used where it is installed. On a terminal, `exit()` or Ctrl-D ends it.

    Args:
        scope: the names that are there.
        banner: printed first, on a terminal.
        stream: standard input.

    Returns:
        The exit code: 1 if a program from a pipe raised an error, whose traceback is printed on standard error.
    """
    names = {"__name__": "__console__", "__doc__": None, **scope}
    if not stream.isatty():
        return _run(stream.read(), names)
    if importlib.util.find_spec("IPython") is not None:
        importlib.import_module("IPython").embed(header=banner, user_ns=names, colors="neutral")
        return EXIT_OK
    import code

    try:
        code.interact(banner, local=names, exitmsg="")
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else EXIT_OK
    return EXIT_OK


def _run(program: str, names: dict[str, Any]) -> int:
    try:
        exec(compile(program, "<standard input>", "exec"), names)  # noqa: S102 - the user's own program
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else EXIT_OK if error.code is None else EXIT_FAILED
    except Exception:  # noqa: BLE001 - of the user's program, as Python itself reports it
        traceback.print_exc(file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK
