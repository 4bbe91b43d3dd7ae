"""Beats: each process of a run writes its last state to a file in the run's logs folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

FAILED = "failed"
"""`failed.<attempt>` in the logs folder exists once a process of that attempt has failed. Its name has the attempt's
number because NFS may show the file of an earlier attempt to other machines for a minute after its removal."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """A process of a run: its rank, the world size, host, process id, device, and the path of its log."""

    rank: int
    world_size: int
    host: str
    pid: int
    device: str
    log: str


@dataclasses.dataclass(frozen=True)
class Work:
    """What a progress bar shows: the name of the work, how much of it is done, and numbers beside it."""

    what: str
    done: int
    total: int
    numbers: str


@dataclasses.dataclass(frozen=True)
class Beat:
    """The last state of a process.

    Attributes:
        identity: the process.
        phase, epoch, step, collective: as in `Pulse`.
        time: when the beat was written, seconds since 1970.
        progress_time: when the pulse last changed, seconds since 1970.
        work: what its progress bar shows; None without one.
    """

    identity: Identity
    phase: str
    epoch: int
    step: int
    collective: bool
    time: float
    progress_time: float
    work: Work | None = None

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Beat:
        """From `to_json`. Raises ValueError, KeyError or TypeError for anything else."""
        values: dict[str, Any] = json.loads(text)
        work = Work(**values["work"]) if values.get("work") else None
        return cls(**{**values, "identity": Identity(**values["identity"]), "work": work})

    @property
    def place(self) -> str:
        """Where in the run the process is, for messages."""
        return f"{self.phase}, epoch {self.epoch} step {self.step}"


def failed_path(folder: Path, attempt: int) -> Path:
    """The file that exists once a process of an attempt has failed."""
    return folder / f"{FAILED}.{attempt}"


def beat_path(folder: Path, rank: int) -> Path:
    """The file with a process's beat."""
    return folder / f"rank{rank}.beat"


def read_beats(folder: Path) -> dict[int, Beat]:
    """The beats of all processes by rank; unreadable files are skipped."""
    beats = {}
    for path in folder.glob("rank*.beat"):
        try:
            beat = Beat.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        beats[beat.identity.rank] = beat
    return beats
