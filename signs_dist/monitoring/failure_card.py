"""A failure as one card: which process, where in the run, the error, its place in the code, and the log to read."""

from __future__ import annotations

import dataclasses
import json
import textwrap
import time
from pathlib import Path
from typing import Any, Literal, get_args

from signs_dist.errors import FaultyHardwareError
from signs_dist.files import write_text
from signs_dist.monitoring.beats import FAILED, Beat, Identity, failed_path
from signs_dist.monitoring.diagnosis import find_place, hints, is_lost_peer
from signs_dist.monitoring.pulse import Pulse

WIDTH = 96
"""Columns of a card."""
REPORTED = "told"
"""A file in a run's logs folder. The process that makes it reports the lost process on the terminal."""
LONGEST_ERROR = 1500
"""Characters of an error that a card shows; the log has the whole error."""

Kind = Literal["error", "killed", "lost_peer"]


# Many members: one for each fact that a card shows.
@dataclasses.dataclass(frozen=True)
class FailureCard:
    """What is known about a failure. Its attributes are the keys of the JSON file.

    Attributes:
        rank, world_size, host, device, log: the process that failed.
        phase, epoch, step: as in `Pulse`, when it failed.
        error: type and message.
        place: file, line and function in this package or the user's code; "" where unknown.
        kind: `error` for an exception, `killed` for a process that ended without an error message, `lost_peer` for a
            process that does not answer.
        details: further lines.
        time: seconds since 1970.
        told_by: the rank that reports the failure.
        exit_code: of the reporting process.
    """

    rank: int
    world_size: int
    host: str
    device: str
    log: str
    phase: str
    epoch: int
    step: int
    error: str
    place: str
    kind: Kind
    time: float
    told_by: int
    exit_code: int
    details: tuple[str, ...] = ()

    @classmethod
    def of_process(
        cls,
        identity: Identity,
        pulse: Pulse | Beat,
        *,
        kind: Kind,
        error: str,
        time: float,
        told_by: int,
        exit_code: int,
        place: str = "",
        details: tuple[str, ...] = (),
    ) -> FailureCard:
        """The card of a process. Its pulse, or its last beat, says where in the run it was."""
        return cls(
            rank=identity.rank,
            world_size=identity.world_size,
            host=identity.host,
            device=identity.device,
            log=identity.log,
            phase=pulse.phase,
            epoch=pulse.epoch,
            step=pulse.step,
            error=error,
            place=place,
            kind=kind,
            time=time,
            told_by=told_by,
            exit_code=exit_code,
            details=details,
        )

    @classmethod
    def from_exception(cls, error: BaseException, identity: Identity, pulse: Pulse, *, exit_code: int) -> FailureCard:
        """The card of an exception in this process; it is about the process that the exception names, if it does."""
        return cls.of_process(
            error.identity if isinstance(error, FaultyHardwareError) else identity,
            pulse,
            kind="lost_peer" if is_lost_peer(error) else "error",
            error=f"{type(error).__name__}: {error}",
            time=time.time(),
            told_by=identity.rank,
            exit_code=exit_code,
            place=find_place(error),
            details=hints(error),
        )

    @classmethod
    def if_killed(cls, identity: Identity, pulse: Pulse) -> FailureCard:
        """The card of this process in case it is killed. It is written in advance: a killed process writes nothing."""
        return cls.of_process(
            identity,
            pulse,
            kind="killed",
            error="the process ended without an error message: its launcher ended it, or it was killed (SIGKILL; out "
            "of memory?)",
            time=time.time(),
            told_by=identity.rank,
            exit_code=0,
        )

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> FailureCard:
        """From `to_json`. Raises ValueError, KeyError or TypeError for anything else."""
        values: dict[str, Any] = json.loads(text)
        card = cls(**{**values, "details": tuple(values["details"])})
        texts = (card.host, card.device, card.log, card.phase, card.error, card.place, *card.details)
        whole = (card.rank, card.world_size, card.epoch, card.step, card.told_by, card.exit_code)
        are_usable = all(isinstance(each, str) for each in texts) and all(isinstance(each, int) for each in whole)
        if not are_usable or not isinstance(card.time, (int, float)) or card.kind not in get_args(Kind):
            raise TypeError("a value of a failure card is of a wrong type")
        return card


def render(card: FailureCard) -> str:
    """The card as text, framed, at most `WIDTH` columns."""
    title = f"signs_dist: rank {card.rank} of {card.world_size} " if card.world_size > 1 else "signs_dist "
    title += {"error": "failed", "killed": "was killed", "lost_peer": "does not answer"}[card.kind]
    where = f"{card.host}, {card.device}, {'in' if card.kind == 'error' else 'last seen in'} {card.phase}"
    if card.epoch:
        where += f", epoch {card.epoch}, step {card.step}"
    rows = [("where", where), ("error", card.error[:LONGEST_ERROR])]
    rows += [("at", card.place)] if card.place else []
    rows += [("", line) for line in card.details]
    rows += [("log", card.log)] if card.log else []
    lines = [f"──── {title} ".ljust(WIDTH, "─")]
    for name, text in rows:
        lines += _wrapped(name, text)
    return "\n".join([*lines, "─" * WIDTH])


def summarise(card: FailureCard) -> str:
    """The card in one line."""
    who = f"rank {card.rank} of {card.world_size}: " if card.world_size > 1 else ""
    return f"{who}{first_line(card.error)}"


def _wrapped(name: str, text: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        clean = "".join(character if character.isprintable() else "?" for character in paragraph.expandtabs())
        # Paths stay whole, so that they can be copied.
        lines += textwrap.wrap(clean, WIDTH - 8, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"{name if number == 0 else '':>6}  {line}".rstrip() for number, line in enumerate(lines)]


def write_failure(folder: Path, card: FailureCard, attempt: int) -> None:
    """Write this process's card to the logs folder, and mark the attempt as failed for its other processes."""
    folder.stat()  # raises if the run folder was moved or deleted: it is not made again
    write_text(folder / f"failure-rank{card.told_by}.json", card.to_json())
    failed_path(folder, attempt).touch()


def claim_report(folder: Path) -> bool:
    """Whether this process is the first of the run to call this. Only the first one reports on the terminal."""
    try:
        with (folder / REPORTED).open("x"):
            return True
    except FileExistsError:
        return False
    except OSError:
        return True  # a full disk must not hide the card


def clear_failures(folder: Path) -> None:
    """Remove the cards and beats of earlier attempts from the logs folder."""
    cards, beats = folder.glob("failure-rank*.json"), folder.glob("rank*.beat")
    for path in (*cards, *beats, *folder.glob(f"{FAILED}*"), folder / REPORTED):
        path.unlink(missing_ok=True)


def read_failures(folder: Path) -> list[FailureCard]:
    """All cards in the logs folder; unreadable files are skipped."""
    found = []
    for path in sorted(folder.glob("failure-rank*.json")):
        if not path.is_file():  # to open a pipe would wait for a writer
            continue
        try:
            found.append(FailureCard.from_json(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def first_line(text: str) -> str:
    """The first line of an error, at most 200 characters; … stands for the rest of a longer one."""
    line = text.strip().split("\n")[0]
    return line if len(line) <= 200 else f"{line[:199]}…"
