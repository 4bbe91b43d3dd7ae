"""Watches this process of a run: keeps its heartbeat, and shows one failure card when the run fails.

Each process writes a card with its error into the run's logs folder. A process whose own work failed prints its card. A
process that lost another process waits for the card of that process; if none comes, one process prints what it knows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from signs_dist.config.settings import ProcessesConfig
from signs_dist.console.screen import Screen
from signs_dist.console.streams import finish_output
from signs_dist.distributed.error_file import recorded
from signs_dist.environment.context import Context
from signs_dist.errors import (
    EXIT_PEER_LOST,
    CommandError,
    FaultyHardwareError,
    LoadingError,
    PeerLostError,
    StoppedError,
    TrainingFailedError,
    UserError,
)
from signs_dist.monitoring.beats import Identity, read_beats
from signs_dist.monitoring.endings import exit_code, final_line
from signs_dist.monitoring.error_file import write_error_file
from signs_dist.monitoring.failure_card import (
    FailureCard,
    claim_report,
    read_failures,
    render,
    summarise,
    write_failure,
)
from signs_dist.monitoring.heartbeat import Heartbeat
from signs_dist.monitoring.pulse import Pulse
from signs_dist.monitoring.root_cause import find_lost_peer, find_root_cause
from signs_dist.monitoring.signals import end_now
from signs_dist.monitoring.standings import end_stopped

SETTLE_SECONDS = 3.0
"""How long a process that lost another process waits for the card of that process."""
GRACE_SECONDS = 6.0
"""How long after the first failure all other processes are ended, whatever they do."""


class Supervisor:
    """Runs an action on one process of a run and reports errors.

    Args:
        context: where this process runs.
        config: how long processes wait for each other.
        device: the device of this process, for people.
        screen: its log gets the traceback; the card goes to standard error.

    Attributes:
        pulse: the phase of training, set by the training loop.
        when_known: called with one line on why the run failed, before this process ends; None to call nothing.
        may_end_process: whether an error may end this process. False in a user's own program with one process.
    """

    def __init__(self, context: Context, config: ProcessesConfig, device: str, screen: Screen) -> None:
        self.pulse = Pulse()
        self.when_known: Callable[[str], None] | None = None
        self.may_end_process = True
        self._context, self._config, self._screen = context, config, screen
        self._identity = self._make_identity(device, "")
        self._folder: Path | None = None
        self._attempt = 1

    def run(self, action: Callable[[], None]) -> None:
        """Call `action`, and report its error.

        A run of one process raises an error that a user can fix, and a stop; after any other error it prints a card and
        ends. In a run of several processes every error ends this process.
        """
        try:
            recorded(action, self._write_error_file)()
        except (CommandError, KeyboardInterrupt) as error:
            if self._context.world_size == 1 and not isinstance(error, FaultyHardwareError):
                self._tell_reason(_reason(error))
                raise
            self._end(error)
        except Exception as error:  # noqa: BLE001 - shown as a card, with the traceback in the log
            self._end(error)

    def run_for_library(self, action: Callable[[], None]) -> None:
        """As `run`, for a user's own program: a run of one process raises every error."""
        if self._context.world_size > 1:
            self.run(action)
            return
        self.may_end_process = False
        try:
            action()
        except BaseException as error:
            self._tell_reason(_reason(error))
            raise

    def end_stuck(self, error: LoadingError) -> None:
        """Report the error of a main thread that hangs, and end this process. Called in another thread."""
        self._end(error)

    @contextlib.contextmanager
    def watching(self, folder: Path, log: Path, attempt: int) -> Iterator[None]:
        """Within the block, keep a heartbeat in `folder`, and end this process if another one of the attempt fails."""
        self._attempt = attempt
        self._identity = self._make_identity(self._identity.device, str(log))
        heartbeat = Heartbeat(
            folder,
            self._identity,
            self.pulse,
            stall_seconds=self._config.stall_seconds,
            grace_seconds=GRACE_SECONDS,
            end_with=EXIT_PEER_LOST,
            attempt=attempt,
            launcher_pid=self._context.launcher_pid,
            on_beat=self._fill_error_file,
            find_work=lambda: self._screen.work,
        )
        self._folder = folder
        heartbeat.start()
        try:
            yield
        except BaseException:
            # The last beat stays: other processes read it to find out what happened.
            heartbeat.stop(keep_beat=True)
            raise
        heartbeat.stop()
        self._folder = None

    def _end(self, error: BaseException) -> None:
        """Report the error, on one process of the run only, and end this process."""
        code, reason = exit_code(error), _reason(error)
        with contextlib.suppress(BaseException):
            self._screen.log_only("".join(traceback.format_exception(error)))
        if isinstance(error, FaultyHardwareError):
            # All processes raise the same error. Rank 0 shows the card of the process that it names.
            if self._context.rank == 0:
                print(render(self._find_card(error)[0]), file=sys.stderr, flush=True)
        elif isinstance(error, (TrainingFailedError, StoppedError, KeyboardInterrupt)) or (
            isinstance(error, UserError) and self._folder is None
        ):
            # All processes raise the same error, and rank 0 reports it.
            if self._context.rank == 0:
                print(final_line(error), file=sys.stderr, flush=True)
        elif isinstance(error, PeerLostError):
            # At the start: rank 0 names the missing ranks; another rank reports only if it did not reach rank 0.
            if self._context.rank == 0 or error.__cause__ is not None:
                print(final_line(error), file=sys.stderr, flush=True)
        else:
            card, is_shown = self._find_card(error)
            reason = summarise(card)
            if is_shown:
                print(render(card), file=sys.stderr, flush=True)
        self._tell_reason(reason)
        # At a normal end, Python would wait without limit for loader workers that hang.
        if self._context.world_size > 1 or isinstance(error, LoadingError):
            finish_output()
            end_now(code)
        raise SystemExit(code)

    def _tell_reason(self, reason: str) -> None:
        if self.when_known is not None:
            self.when_known(reason)

    def _find_card(self, error: BaseException) -> tuple[FailureCard, bool]:
        """The card of what ended the run, as far as this process knows, and whether this process prints it."""
        card = FailureCard.from_exception(error, self._identity, self.pulse, exit_code=exit_code(error))
        if self._folder is None:
            return card, True
        self._record(self._folder, card)
        if card.kind == "error" or self._context.world_size == 1:
            return card, True
        # This process lost another process, which may have written a card that says why.
        time.sleep(SETTLE_SECONDS)
        if self._context.rank != 0 and not self._folder.is_dir():  # moved or deleted: rank 0 has said so, and ended
            return dataclasses.replace(card, error=f"{self._folder} is gone"), False
        found = read_failures(self._folder)
        root = find_root_cause([other for other in found if other.kind == "error"])
        if root is not None:
            self._record(self._folder, dataclasses.replace(card, error=f"lost {summarise(root)}"))
            return root, False
        card = find_lost_peer(self._folder, card, found)
        self._record(self._folder, card)
        # Of the ranks that wrote a card the lowest prints it, unless another process has printed one.
        is_shown = self._context.rank == min(other.told_by for other in [*found, card]) and claim_report(self._folder)
        if is_shown:
            for beat in read_beats(self._folder).values():
                end_stopped(beat.identity, self._identity)
        return card, is_shown

    def _record(self, folder: Path, card: FailureCard) -> None:
        with contextlib.suppress(OSError, UserError):  # a full disk must not hide the card
            write_failure(folder, card, self._attempt)
            self._write_error_card(card)

    def _write_error_card(self, card: FailureCard) -> None:
        """Write the file whose text torchrun shows when this process has ended."""
        if self._context.error_file is not None:
            write_error_file(self._context.error_file, card)

    def _write_error_file(self, error: BaseException) -> None:
        card = FailureCard.from_exception(error, self._identity, self.pulse, exit_code=exit_code(error))
        with contextlib.suppress(OSError):
            self._write_error_card(card)

    def _fill_error_file(self) -> None:
        """Write now what torchrun shows if this process is killed later."""
        self._write_error_card(FailureCard.if_killed(self._identity, self.pulse))

    def _make_identity(self, device: str, log: str) -> Identity:
        context = self._context
        return Identity(context.rank, context.world_size, context.host, context.process_id, device, log)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
