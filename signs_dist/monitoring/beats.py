"""What each process of a run last said of itself, in a file of the run's logs folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

FAILED = "failed"
"""With the attempt's number behind it: a file in a run's logs folder, there as soon as a process of it has failed. That
of an earlier attempt may still be seen by another machine after it was removed: NFS remembers for a minute."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """Which process this is: rank of world size, host, process id, device, and the path of its log."""

    rank: int
    world_size: int
    host: str
    pid: int
    device: str
    log: str


@dataclasses.dataclass(frozen=True)
class Work:
    """What a bar shows: what is done, how much of it, and numbers beside it."""

    what: str
    done: int
    total: int
    numbers: str


@dataclasses.dataclass(frozen=True)
class Beat:
    """What a process last said of itself.

    Attributes:
        identity: which process.
        phase, epoch, step, collective: its pulse.
        time: when it said so, seconds since 1970.
        progress_time: when its pulse last changed.
        work: what its bar shows; None between.
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
        """Where in the run it is, for people."""
        return f"{self.phase}, epoch {self.epoch} step {self.step}"


def failed_path(folder: Path, attempt: int) -> Path:
    """The file that is there as soon as a process of an attempt has failed."""
    return folder / f"{FAILED}.{attempt}"


def beat_path(folder: Path, rank: int) -> Path:
    """The file with a process's beat."""
    return folder / f"rank{rank}.beat"


def read_beats(folder: Path) -> dict[int, Beat]:
    """The beats of all processes by rank; what cannot be read is left out."""
    beats = {}
    for path in folder.glob("rank*.beat"):
        try:
            beat = Beat.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        beats[beat.identity.rank] = beat
    return beats
