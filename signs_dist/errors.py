"""The errors that a command reports to its user, and the exit codes that all commands share."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

EXIT_OK = 0
"""The command did what it was asked to do."""
EXIT_FAILED = 1
"""The command failed, and not because of its input: a bug, or a fault of the machine."""
EXIT_USAGE = 2
"""Wrong input: config, data, flags, a full disk. No file is half-written."""
EXIT_PEER_LOST = 3
"""Another process of the run never arrived or was lost: read that process's log."""
EXIT_OTHER_ARITHMETIC = 4
"""An exact run would go on with other bits: this machine computes something else than the run did, or its processes."""
EXIT_CANNOT_SAVE = 74
"""A checkpoint could not be written (a full disk); earlier checkpoints are whole. sysexits.h calls it EX_IOERR."""
EXIT_STOPPED = 75
"""A signal other than Ctrl-C stopped the command; a run is saved. The same command resumes. sysexits.h: EX_TEMPFAIL."""
EXIT_OUTPUT_LOST = 141
"""Nobody reads the output, as behind `| head`: by the shells' convention 128 + SIGPIPE."""
EXIT_INTERRUPTED = 130
"""Ctrl-C, by the shells' convention 128 + SIGINT."""


class CommandError(Exception):
    """An error that a command prints in one line, without a traceback, before it exits.

    Attributes:
        exit_code: of the command.
    """

    exit_code: int = EXIT_FAILED


class UserError(CommandError, ValueError):
    """Wrong input. The message says what was given, what is legal and what to type."""

    exit_code = EXIT_USAGE


class OtherArithmeticError(UserError):
    """In exact mode: the machines compute other bits than each other, or than the run did before.

    Args:
        message: what differs, and what to type.
        nodes: the machines that compute something else; empty: all of the run.
    """

    exit_code = EXIT_OTHER_ARITHMETIC

    def __init__(self, message: str, nodes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.nodes = nodes


class TrainingFailedError(CommandError, RuntimeError):
    """Training cannot continue. The message says why."""


class FaultyHardwareError(TrainingFailedError):
    """A process of an exact run got another result than the others from the same input.

    Args:
        message: which process, what it computed, and from which state the run resumes.
        identity: a `monitoring.beats.Identity`: of the process, or of one of those that it may be.
        nodes: the machines of all processes that it may be.
    """

    def __init__(self, message: str, identity: Any, nodes: tuple[str, ...]) -> None:
        super().__init__(message)
        self.identity, self.nodes = identity, nodes


class NotFiniteError(CommandError, ArithmeticError):
    """A trained model gives NaN or infinity for an image. The message names its weights."""


class ExportDiffersError(CommandError, RuntimeError):
    """An export does not give what the run's own model gives. The message says where they differ."""


class PeerLostError(CommandError, RuntimeError):
    """Another process of the run did not arrive, or no longer answers."""

    exit_code = EXIT_PEER_LOST


class SaveError(CommandError, RuntimeError):
    """A checkpoint could not be written."""

    exit_code = EXIT_CANNOT_SAVE


class StoppedError(CommandError, RuntimeError):
    """A signal asked the run to stop, and it stopped.

    Args:
        message: where the run stopped.
        exit_code: 130 for Ctrl-C, 75 for the signals of schedulers.
        is_saved: False where there was no time to save; the run then resumes from its last periodic save.
    """

    def __init__(self, message: str, exit_code: int = EXIT_INTERRUPTED, *, is_saved: bool = True) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.is_saved = is_saved


def require_kind(name: str, value: object, kind: type | tuple[type, ...], example: str) -> None:
    """Refuse an argument of a public function that is of another type than the function takes.

    Args:
        name: of the argument.
        value: what was given.
        kind: what is legal. With int, a bool is refused.
        example: what to type.

    Raises:
        UserError: naming the argument, its value and the example.
    """
    is_disguised = isinstance(value, bool) and kind is int
    if not isinstance(value, kind) or is_disguised:
        shown = repr(value)
        short = shown if len(shown) <= 60 else f"{shown[:57]}..."
        raise UserError(f"{name}={short} is of type {type(value).__name__}. Type {example}")


_FLAGS = (
    (re.compile(r"^--config (?=\S)"), ""),
    (re.compile(r"--accept-change ([\w.,]+)"), r'accept_change="\1"'),
    (re.compile(r"--(device|split|weights) ([\w:.,]*\w)"), r'\1="\2"'),
    (re.compile(r"--(run-dir|accept-change|device|split|weights)\b"), lambda found: found[1].replace("-", "_")),
)


@contextlib.contextmanager
def in_python_words() -> Iterator[None]:
    """In a public function, a `UserError` names its arguments (`run_dir`), not a command's flags (`--run-dir`)."""
    try:
        yield
    except UserError as error:
        message = str(error)
        for flag, words in _FLAGS:
            message = flag.sub(words, message)
        if message == str(error):
            raise
        raise with_message(error, message) from error


def with_message(error: UserError, message: str) -> UserError:
    """The error with another message and the same exit code."""
    if isinstance(error, OtherArithmeticError):
        return OtherArithmeticError(message, error.nodes)
    return UserError(message)


class CheckpointError(ValueError):
    """A file is a broken checkpoint, or no checkpoint. The message names the file."""


class LoadingError(RuntimeError):
    """No batch comes from the storage or from the loader's worker processes. The message says which and why."""


class NonFiniteLossError(RuntimeError):
    """The loss of a step is infinite or not a number.

    Attributes:
        found: for each micro-batch of this process with such a loss: epoch and step (from 1), micro_batch, samples.
    """

    def __init__(self, found: list[dict[str, Any]]) -> None:
        super().__init__("the loss is not a finite number")
        self.found = found


class WrongResultError(RuntimeError):
    """A check has found that a process got another result than the others from the same input.

    Attributes:
        what: differs, such as `the weights`.
        suspects: the `monitoring.beats.Identity` of each process that did, or may have done.
        is_certain: whether all of `suspects` did; False: one of them, or more.
        step: of the run, from 1, in which it was found.
        clean: the `Cursor` before the newest step whose check found no difference; None without one.
    """

    def __init__(self, what: str, suspects: list[Any], *, is_certain: bool, step: int, clean: Any) -> None:
        names = ", ".join(str(each.rank) for each in suspects)
        super().__init__(f"{what} of rank {names} {'differ' if is_certain else 'may differ'} at step {step}")
        self.what, self.suspects, self.is_certain, self.step, self.clean = what, suspects, is_certain, step, clean
