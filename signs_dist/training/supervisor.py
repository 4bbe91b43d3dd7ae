"""Watches this process of a run: its heartbeat, and when something breaks, one card that says what.

Each process records what broke it in the run's logs folder. The process whose own work failed tells it on the
terminal; one that only lost another waits a moment for that one's word, and tells what it knows if there is none.
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
from signs_dist.distributed.error_file import recorded
from signs_dist.environment.context import Context
from signs_dist.errors import (
    EXIT_PEER_LOST,
    CommandError,
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
"""How long a process that lost another waits for that one's own word."""
GRACE_SECONDS = 6.0
"""How long after the first failure every other process is ended, wherever it is."""


class Supervisor:
    """Runs a command on one of the run's processes and tells what breaks.

    Args:
        context: where this process runs.
        config: how long processes wait for each other.
        device: what this process computes on.
        screen: where the traceback goes, beside the card on standard error.

    Attributes:
        pulse: what this process is doing; set by the training loop.
        when_known: called with one line on what has ended the run, before this process ends; None for nobody.
    """

    def __init__(self, context: Context, config: ProcessesConfig, device: str, screen: Screen) -> None:
        self.pulse = Pulse()
        self.when_known: Callable[[str], None] | None = None
        self._context, self._config, self._screen = context, config, screen
        self._identity = self._make_identity(device, "")
        self._folder: Path | None = None
        self._attempt = 1

    def run(self, action: Callable[[], None]) -> None:
        """Do it. An error that the user can mend, or a stop that was asked for, is raised; any other ends in a card.

        In a run of several processes this does not return when something fails: the process ends.
        """
        try:
            recorded(action, self._write_error_file)()
        except (CommandError, KeyboardInterrupt) as error:
            if self._context.world_size == 1:
                self._tell_reason(_reason(error))
                raise
            self._end(error)
        except Exception as error:  # noqa: BLE001 - the last stop: told as a card, with the traceback in the log
            self._end(error)

    def run_for_library(self, action: Callable[[], None]) -> None:
        """Do it in a program that is not ours: in one process, every error is raised."""
        if self._context.world_size > 1:
            self.run(action)
            return
        try:
            action()
        except BaseException as error:
            self._tell_reason(_reason(error))
            raise

    @contextlib.contextmanager
    def watching(self, folder: Path, log: Path, attempt: int) -> Iterator[None]:
        """Within the block, keep a heartbeat in `folder`, and end this process when another of the attempt failed."""
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
            # The others look at this process's last beat to tell what happened: it stays.
            heartbeat.stop(keep_beat=True)
            raise
        heartbeat.stop()
        self._folder = None

    def _end(self, error: BaseException) -> None:
        """Tell what happened, once over all processes, and end this one."""
        code, reason = exit_code(error), _reason(error)
        with contextlib.suppress(BaseException):
            self._screen.log_only("".join(traceback.format_exception(error)))
        if isinstance(error, (TrainingFailedError, StoppedError, KeyboardInterrupt)) or (
            isinstance(error, UserError) and self._folder is None
        ):
            # All processes raise these alike, and the first speaks.
            if self._context.rank == 0:
                print(final_line(error), file=sys.stderr, flush=True)
        elif isinstance(error, PeerLostError):
            # At the rendezvous: rank 0 says who is missing, and another only that it found no rank 0 at all.
            if self._context.rank == 0 or error.__cause__ is not None:
                print(final_line(error), file=sys.stderr, flush=True)
        else:
            card, is_shown = self._find_card(error)
            reason = summarise(card)
            if is_shown:
                print(render(card), file=sys.stderr, flush=True)
        self._tell_reason(reason)
        if self._context.world_size > 1:
            sys.stdout.flush()
            end_now(code)
        raise SystemExit(code)

    def _tell_reason(self, reason: str) -> None:
        if self.when_known is not None:
            self.when_known(reason)

    def _find_card(self, error: BaseException) -> tuple[FailureCard, bool]:
        """The card of what ended the run, as far as this process can know, and whether this one is to show it."""
        card = FailureCard.from_exception(error, self._identity, self.pulse, exit_code=exit_code(error))
        if self._folder is None or self._context.world_size == 1:
            return card, True
        self._record(self._folder, card)
        if card.kind == "error":
            return card, True
        # A process that has lost another: that one tells why, if it can.
        time.sleep(SETTLE_SECONDS)
        found = read_failures(self._folder)
        root = find_root_cause([other for other in found if other.kind == "error"])
        if root is not None:
            self._record(self._folder, dataclasses.replace(card, error=f"lost {summarise(root)}"))
            return root, False
        card = find_lost_peer(self._folder, card, found)
        self._record(self._folder, card)
        # The lowest of those that know; one that is later than this finds it said.
        speaks = self._context.rank == min(other.told_by for other in [*found, card]) and claim_report(self._folder)
        if speaks:
            for beat in read_beats(self._folder).values():
                end_stopped(beat.identity, self._identity)
        return card, speaks

    def _record(self, folder: Path, card: FailureCard) -> None:
        with contextlib.suppress(OSError, UserError):  # a full disk must not hide the card
            write_failure(folder, card, self._attempt)
            self._write_error_card(card)

    def _write_error_card(self, card: FailureCard) -> None:
        """For torchrun, which shows the file's text when this process has ended."""
        if self._context.error_file is not None:
            write_error_file(self._context.error_file, card)

    def _write_error_file(self, error: BaseException) -> None:
        card = FailureCard.from_exception(error, self._identity, self.pulse, exit_code=exit_code(error))
        with contextlib.suppress(OSError):
            self._write_error_card(card)

    def _fill_error_file(self) -> None:
        """A process that is killed writes nothing: what torchrun is to show of it is written beforehand."""
        self._write_error_card(FailureCard.if_killed(self._identity, self.pulse))

    def _make_identity(self, device: str, log: str) -> Identity:
        context = self._context
        return Identity(context.rank, context.world_size, context.host, context.process_id, device, log)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
