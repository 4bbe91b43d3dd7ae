"""Which limit of this session an error came from: memory, open files or processes; and who can lift it."""

from __future__ import annotations

import errno
from collections.abc import Mapping

UNLIMITED = -1
"""`resource.RLIM_INFINITY`."""

_MEMORY = ("failed to map segment", "cannot allocate memory", "can't allocate memory", "not enough memory")
_THREADS = ("can't start new thread", "resource temporarily unavailable", "pthread_create")
_FILES = ("too many open files",)


def explain_limit(error: BaseException, limits: Mapping[str, tuple[int, int]] | None = None) -> str:
    """The limit that `error` probably ran into, and what to type to raise it; "" if it names none that is set.

    Args:
        error: what was raised.
        limits: from `session_limits`; None for those of this process.
    """
    name = _name_limit(error)
    soft, hard = (session_limits() if limits is None else limits).get(name, (UNLIMITED, UNLIMITED))
    if soft == UNLIMITED:
        return ""
    letter, unit, what = {
        "memory": ("v", 1024, "the memory of a process"),
        "files": ("n", 1, "the number of open files of a process"),
        "processes": ("u", 1, "the number of processes and threads of a user"),
    }[name]
    amount = f"{soft:,} bytes" if unit > 1 else f"{soft:,}"
    if hard == soft:
        way_out = "a new session may have a higher one; else ask an administrator."
        return f"This session limits {what} to {amount} (ulimit -{letter}): {way_out}"
    wanted = "unlimited" if hard == UNLIMITED else str(hard // unit)
    return f"This session limits {what} to {amount} (ulimit -{letter}). To raise it, type: ulimit -{letter} {wanted}"


def session_limits() -> dict[str, tuple[int, int]]:
    """(soft limit, hard limit) of this process for `memory` (bytes), `files` and `processes`; -1 for none."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return {}
    kinds = {"memory": resource.RLIMIT_AS, "files": resource.RLIMIT_NOFILE, "processes": resource.RLIMIT_NPROC}
    return {name: resource.getrlimit(kind) for name, kind in kinds.items()}


def _name_limit(error: BaseException) -> str:
    """memory, files, processes, or "" for an error that no limit causes."""
    text, number = str(error).lower(), getattr(error, "errno", None)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or any(words in text for words in _MEMORY):
        return "memory"
    if number == errno.ENFILE:
        return ""  # the limit of the whole machine, which no session raises
    if number == errno.EMFILE or any(words in text for words in _FILES):
        return "files"
    if number == errno.EAGAIN or (isinstance(error, RuntimeError) and any(words in text for words in _THREADS)):
        return "processes"
    return ""
