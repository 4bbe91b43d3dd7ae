"""What a user can mend, and the exit codes every command shares."""

from __future__ import annotations

from typing import Any

EXIT_OK = 0
"""The command did what it was asked to do."""
EXIT_FAILED = 1
"""Something broke that is not the user's input: a bug, or a machine that failed."""
EXIT_USAGE = 2
"""Wrong input: config, data, flags, a full disk. Nothing is left half-written."""
EXIT_PEER_LOST = 3
"""Another process of the run never arrived, or was lost: look at its log, not at this one's."""
EXIT_CANNOT_SAVE = 74
"""A checkpoint could not be written (a full disk); the ones before it are whole. sysexits.h calls it EX_IOERR."""
EXIT_STOPPED = 75
"""Stopped by SIGTERM or SIGUSR2, everything saved: the same command goes on later. sysexits.h: EX_TEMPFAIL."""
EXIT_INTERRUPTED = 130
"""Ctrl-C, by the shells' convention 128 + SIGINT."""


class TrainingFailedError(RuntimeError):
    """Training cannot go on, and why. Entry points print it and exit 1."""


class NonFiniteLossError(RuntimeError):
    """The loss of a step is infinite or not a number.

    Attributes:
        found: of each of this process's micro-batches with such a loss: epoch and step (from 1), micro_batch, samples.
    """

    def __init__(self, found: list[dict[str, Any]]) -> None:
        super().__init__("the loss is not a finite number")
        self.found = found


class PeerLostError(RuntimeError):
    """Another process of the run did not arrive, or does not answer any more. Entry points exit 3."""


class CheckpointError(ValueError):
    """A checkpoint is broken or is not one. The message names the file."""


class SaveError(RuntimeError):
    """A checkpoint could not be written. Entry points exit 74."""


class StoppedError(RuntimeError):
    """A signal asked to stop, and what there is has been saved.

    Args:
        message: where the run stopped.
        exit_code: 130 for Ctrl-C, 75 for the signals of schedulers.
        is_saved: False where there was no time for it, and the run goes on from its last periodic save.
    """

    def __init__(self, message: str, exit_code: int = EXIT_INTERRUPTED, *, is_saved: bool = True) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.is_saved = is_saved


class UserError(ValueError):
    """Wrong input. The message says what was given, what is legal and what to type. Entry points exit 2."""
