"""What a user can mend, and the exit codes every command shares."""

from __future__ import annotations

EXIT_OK = 0
"""The command did what it was asked to do."""
EXIT_FAILED = 1
"""Something broke that is not the user's input: a bug, or a machine that failed."""
EXIT_USAGE = 2
"""Wrong input: config, data, flags, a full disk. Nothing is left half-written."""
EXIT_INTERRUPTED = 130
"""Ctrl-C, by the shells' convention 128 + SIGINT."""


class TrainingFailedError(RuntimeError):
    """Training cannot go on, and why. Entry points print it and exit 1."""


class UserError(ValueError):
    """Wrong input. The message says what was given, what is legal and what to type. Entry points exit 2."""
