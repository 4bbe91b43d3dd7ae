"""Turning a forked process into what `python -u ARGUMENTS` would be, without a new interpreter and its imports."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import runpy
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

PROGRAM_FLAGS = ("-m", "-c")
"""How a program begins that `run_program` can run."""
_STANDARD_ERROR = 2


def enter_session(standard_error: str) -> None:
    """Give this process, which has just been forked, a session of its own, and send its standard error to a file.

    Args:
        standard_error: the file. It exists.
    """
    os.setsid()
    descriptor = os.open(standard_error, os.O_WRONLY)
    os.dup2(descriptor, _STANDARD_ERROR)
    os.close(descriptor)


def enter_environment(changes: Mapping[str, str | None]) -> None:
    """Change the environment, and whatever a new interpreter draws from the system's randomness.

    Python's own `random`, `tempfile` and `uuid` draw again after a fork by themselves, and torch's first seed is the
    same in every process. Hashes of text stay those of the parent.

    Args:
        changes: name → value, or None for a variable that is removed.
    """
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    multiprocessing.current_process().authkey = os.urandom(32)
    importlib.invalidate_caches()  # a restarted process finds files that are younger than its parent


def can_run(arguments: Sequence[str]) -> bool:
    """Whether `run_program` can run what `python -u ARGUMENTS` would run."""
    return len(arguments) > 1 and arguments[0] in PROGRAM_FLAGS


def run_program(arguments: Sequence[str]) -> NoReturn:
    """Run a program as `python -u` runs it, and end as it ends: by SystemExit or KeyboardInterrupt.

    Args:
        arguments: `-m MODULE …` or `-c CODE …`.
    """
    assert can_run(arguments), arguments
    sys.orig_argv = [sys.executable, "-u", *arguments]
    set_command_line(sys.orig_argv)
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=sys.modules["builtins"], __annotations__={})
    sys.modules["__main__"] = main
    sys.argv = [arguments[0], *arguments[2:]]
    try:
        if arguments[0] == "-m":
            # What the interpreter itself calls for -m. The documented run_module would take its __main__ away again
            # before the functions run that the program has registered for its exit.
            runpy._run_module_as_main(arguments[1])  # type: ignore[attr-defined]
        else:
            if not getattr(sys.flags, "safe_path", False):
                sys.path[0] = ""
            exec(compile(arguments[1], "<string>", "exec"), main.__dict__)  # noqa: S102 - as python -c does
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - the interpreter would print it with the frames of this file
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)
    sys.exit(0)


def set_command_line(words: Sequence[str]) -> None:
    """Let /proc, and so `ps`, show these words as this process's command line, where there is room for them.

    There is no call for it: the words are written over those that the process was started with, as setproctitle does.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        # Fields 48 and 49, arg_start and arg_end (proc(5)); 0 where the process may not see them.
        fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        text = b"".join(os.fsencode(word) + b"\0" for word in words)
        if start and len(text) < end - start:
            ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)
