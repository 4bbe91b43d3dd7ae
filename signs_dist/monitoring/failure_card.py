"""What broke, as one card: which process, where in the run, the error, its place in our code, and the log to read."""

from __future__ import annotations

import dataclasses
import json
import sysconfig
import textwrap
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from signs_dist.environment.process_table import process_state
from signs_dist.files import write_text
from signs_dist.monitoring.beats import FAILED, Beat, Identity, failed_path, read_beats
from signs_dist.monitoring.pulse import Pulse
from signs_dist.monitoring.standings import describe_standings, judge_processes

WIDTH = 96
"""Columns of a card."""
TOLD = "told"
"""File in a run's logs folder that is there as soon as a process tells on the terminal which other was lost."""
LONGEST_ERROR = 1500
"""Characters of an error that a card shows; the log has all of it."""
PACKAGES = Path(__file__).resolve().parent.parent

Kind = Literal["error", "killed", "lost_peer"]
_WORST: tuple[Kind, ...] = ("error", "killed", "lost_peer")

_LATER_SECONDS: dict[Kind, int] = {"error": 0, "killed": 5, "lost_peer": 10}

_LOST_PEER_WORDS = (
    "connection closed by peer",
    "connection reset by peer",
    "timed out waiting",
    "socket timeout",
    "broken pipe",
    "remote process exited",
    "connectfullmesh failed",
    "connection refused",
    "application timeout caused pair closure",
)


@dataclasses.dataclass(frozen=True)
class FailureCard:
    """What is known about a failure.

    Attributes:
        rank, world_size, host, device, log: the process that failed.
        phase, epoch, step: where it was.
        error: type and message.
        place: file, line and function in our code or the user's, "" where there is none.
        kind: `error` for an exception, `killed` for a process that ended without a word, `lost_peer` for one that does
            not answer.
        details: further lines.
        time: seconds since 1970.
        told_by: rank that says so.
        exit_code: of the process that tells.
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
    def from_exception(cls, error: BaseException, identity: Identity, pulse: Pulse, *, exit_code: int) -> FailureCard:
        """The card of an exception in this process."""
        return cls(
            rank=identity.rank,
            world_size=identity.world_size,
            host=identity.host,
            device=identity.device,
            log=identity.log,
            phase=pulse.phase,
            epoch=pulse.epoch,
            step=pulse.step,
            error=f"{type(error).__name__}: {error}",
            place=find_place(error),
            kind="lost_peer" if is_lost_peer(error) else "error",
            time=time.time(),
            told_by=identity.rank,
            exit_code=exit_code,
            details=hints(error),
        )

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> FailureCard:
        """From `to_json`. Raises ValueError, KeyError or TypeError for anything else."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "details": tuple(values["details"])})


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
    return f"{who}{_first_line(card.error)}"


def _wrapped(name: str, text: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        clean = "".join(character if character.isprintable() else "?" for character in paragraph.expandtabs())
        # Paths stay whole, to be copied.
        lines += textwrap.wrap(clean, WIDTH - 8, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"{name if number == 0 else '':>6}  {line}".rstrip() for number, line in enumerate(lines)]


def find_place(error: BaseException) -> str:
    """`file:line in function` of the innermost frame in this package or the user's own code; "" without any."""
    libraries = (sysconfig.get_path("stdlib"), sysconfig.get_path("platlib"), sysconfig.get_path("purelib"))
    frames = traceback.extract_tb(error.__traceback__)
    for depth, frame in enumerate(reversed(frames)):
        path = Path(frame.filename)
        own = path.is_relative_to(PACKAGES)
        if not own and (frame.filename.startswith(("<", *libraries)) or "site-packages" in path.parts):
            continue
        shown = path.relative_to(PACKAGES.parent) if own else path
        inner = frames[-1]
        through = "" if depth == 0 else f" (raised in {'/'.join(Path(inner.filename).parts[-3:])}:{inner.lineno})"
        return f"{shown}:{frame.lineno} in {frame.name}{through}"
    return ""


def hints(error: BaseException) -> tuple[str, ...]:
    """What to do about an error, where that is known."""
    text = f"{type(error).__name__}: {error}"
    if "OutOfMemoryError" in text or "out of memory" in text:
        return ("A smaller train.micro_batch needs less memory; the result is that of the same global batch.",)
    if "does not have a deterministic implementation" in text:
        return ("exact=true allows deterministic operations only: use another layer there, or exact=false.",)
    if "Expected to have finished reduction in the prior iteration" in text:
        return ("The model has parameters that the loss does not depend on: remove them, or freeze them.",)
    if "Expected more than 1 value per channel" in text:
        return ("BatchNorm cannot normalise over a single value: use a larger train.micro_batch.",)
    return ()


def is_lost_peer(error: BaseException) -> bool:
    """Whether an exception only says that another process has gone, or was late."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"PeerLostError", "DistNetworkError", "DistBackendError", "DistStoreError"}:
        return True
    return "RuntimeError" in names and any(words in str(error).lower() for words in _LOST_PEER_WORDS)


def killed_card(identity: Identity, pulse: Pulse) -> FailureCard:
    """What is to be said of this process if it should end without being able to say anything."""
    return FailureCard(
        rank=identity.rank,
        world_size=identity.world_size,
        host=identity.host,
        device=identity.device,
        log=identity.log,
        phase=pulse.phase,
        epoch=pulse.epoch,
        step=pulse.step,
        error="the process ended without a word: by its launcher, or killed (SIGKILL; out of memory?)",
        place="",
        kind="killed",
        time=time.time(),
        told_by=identity.rank,
        exit_code=0,
    )


def find_lost_peer(
    folder: Path, own: FailureCard, found: Sequence[FailureCard] = (), state: Callable[[int], str] = process_state
) -> FailureCard:
    """The card of the process that this one has lost: the most suspicious by its heartbeat.

    Args:
        folder: the run's logs folder.
        own: this process's card.
        found: the cards of others: who has told of a loss is not the one that is lost, even if it has ended by now.
        state: from a process id to running, stopped, gone or unknown.
    """
    beats = read_beats(folder)
    standings = [
        standing
        for standing in judge_processes(
            beats,
            world_size=own.world_size,
            now=time.time(),
            host=own.host,
            state=state,
            have_lost={card.told_by for card in found if card.kind != "error"},
        )
        if standing.rank != own.rank
    ]
    lines = (*describe_standings(standings), f"rank {own.rank} waited in {own.phase}: {_first_line(own.error)}")
    suspect = standings[0] if standings else None
    beat = beats.get(suspect.rank) if suspect is not None else None
    if suspect is None or beat is None or suspect.kind == "waiting":
        return dataclasses.replace(own, details=lines)
    return _card_of(beat, suspect.kind, own, lines)


def _card_of(beat: Beat, kind: str, own: FailureCard, lines: tuple[str, ...]) -> FailureCard:
    errors = {
        "gone": f"process {beat.identity.pid} ended without a word: killed from outside (SIGKILL; out of memory?)",
        "silent": f"process {beat.identity.pid} does not answer any more",
        "busy": f"process {beat.identity.pid} did not come to the collective in which the others wait",
    }
    return dataclasses.replace(
        own,
        rank=beat.identity.rank,
        host=beat.identity.host,
        device=beat.identity.device,
        log=beat.identity.log,
        phase=beat.phase,
        epoch=beat.epoch,
        step=beat.step,
        error=errors[kind],
        place="",
        kind="killed" if kind == "gone" else "lost_peer",
        details=lines,
    )


def record(folder: Path, card: FailureCard, attempt: int) -> None:
    """Leave the card of this process in the logs folder, where the others of the run's attempt look."""
    write_text(folder / f"failure-rank{card.told_by}.json", card.to_json())
    failed_path(folder, attempt).touch()


def claim_word(folder: Path) -> bool:
    """Whether this process is the first that wants to tell on the terminal which other was lost."""
    try:
        with (folder / TOLD).open("x"):
            return True
    except FileExistsError:
        return False
    except OSError:
        return True  # a full disk must not hide the card


def clear(folder: Path) -> None:
    """Remove what an earlier attempt has left in the logs folder for its own processes to read."""
    left = (*folder.glob("failure-rank*.json"), *folder.glob("rank*.beat"), *folder.glob(f"{FAILED}*"), folder / TOLD)
    for path in left:
        path.unlink(missing_ok=True)


def read_failures(folder: Path) -> list[FailureCard]:
    """The cards that have been left; what cannot be read is left out."""
    found = []
    for path in sorted(folder.glob("failure-rank*.json")):
        try:
            found.append(FailureCard.from_json(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def choose_root(cards: Sequence[FailureCard]) -> FailureCard | None:
    """The card that explains the others: an error before a killed process before a lost one, then the earliest."""
    return min(cards, key=lambda card: (_WORST.index(card.kind), card.time), default=None)


def write_error_file(path: Path, card: FailureCard) -> None:
    """Write the card where torchrun looks when a worker has ended, in its format: its report then shows it.

    torchrun takes the earliest for the root cause, and lists also the workers that it has ended itself, whose file was
    written beforehand. So the times of what explains less are set later by some seconds.
    """
    timestamp = int(card.time) + _LATER_SECONDS[card.kind]
    _write_for_torchrun(path, card.error, card.exit_code, "\n" + render(card), timestamp)


def write_error_line(path: Path, line: str, exit_code: int) -> None:
    """Write one line where torchrun looks, unless something is there: for what goes wrong before the run begins."""
    if not path.exists():
        _write_for_torchrun(path, line, exit_code, line, int(time.time()))


def _write_for_torchrun(path: Path, message: str, exit_code: int, shown: str, timestamp: int) -> None:
    extra = {"py_callstack": shown, "timestamp": str(timestamp)}
    content = {"message": {"message": message, "errorCode": exit_code, "extraInfo": extra}}
    aside = path.with_suffix(".aside")
    aside.write_text(json.dumps(content), encoding="utf-8")
    aside.replace(path)


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0][:200]
