"""How a command ends after an error: its exit code, and the last line that it prints."""

from __future__ import annotations

from signs_dist.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PEER_LOST, CommandError, StoppedError
from signs_dist.monitoring.diagnosis import is_lost_peer
from signs_dist.monitoring.plain_text import without_control
from signs_dist.monitoring.signals import StoppedBySignal


def exit_code(error: BaseException) -> int:
    """The exit code for an error.

    That of a `CommandError`, 130 for Ctrl-C, 75 for another signal that ended a command, 3 for a lost process, else 1.
    """
    if isinstance(error, CommandError):
        return error.exit_code
    if isinstance(error, StoppedBySignal):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return EXIT_PEER_LOST if is_lost_peer(error) else EXIT_FAILED


def final_line(error: BaseException) -> str:
    """The line on standard error for an error that needs no traceback. Control characters in it are escaped."""
    if exit_code(error) == EXIT_INTERRUPTED:
        return "interrupted"
    if isinstance(error, StoppedBySignal):
        return f"{error}: repeat the command"
    return "stopped" if isinstance(error, StoppedError) else f"error: {without_control(str(error))}"
