"""A note in the run folder that a check has found hardware that gives wrong results, and which states are suspects.

The training writes it when it ends because of that. The attempt that resumes reads it, and removes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

from signs_dist.config.reading import SUSPECTS
from signs_dist.errors import UserError
from signs_dist.run_folder.folder import RunFolder

NAME = "suspect.json"
"""In the folder of the logs."""

Place = tuple[int, int]
"""Finished epochs, and steps done in the next epoch."""


@dataclasses.dataclass(frozen=True)
class Suspicion:
    """What a check has found.

    Attributes:
        step: of the run, from 1, in which it was found.
        what: who computed what, for people.
        clean: the place before the newest step whose check found no difference: later states are suspects. None: all.
    """

    step: int
    what: str
    clean: Place | None

    def is_suspect(self, place: Place) -> bool:
        """Whether the state at a place was saved after the last check that found no difference."""
        return self.clean is None or place > self.clean


def write_suspicion(folder: RunFolder, found: Suspicion) -> None:
    """Write the note, on the process that writes."""
    folder.write_json(f"{folder.logs.name}/{NAME}", dataclasses.asdict(found))


def read_suspicion(folder: RunFolder) -> Suspicion | None:
    """The note; None without one.

    Raises:
        UserError: it is damaged: nobody knows then which states are suspects.
    """
    file = folder.logs / NAME
    try:
        values: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        values = None
    found = _from_values(values) if isinstance(values, dict) else None
    if found is None:
        raise UserError(
            f"{file} cannot be read. It says which checkpoints were saved before faulty hardware was found, and may "
            f"hold wrong results. Restore the file; or, to resume from the newest checkpoint all the same, type "
            f"--accept-change {SUSPECTS}"
        )
    return found


def _from_values(values: dict[str, Any]) -> Suspicion | None:
    if not {"step", "what", "clean"} <= values.keys():
        return None
    step, what, clean = values["step"], values["what"], values["clean"]
    is_place = isinstance(clean, list) and len(clean) == 2 and all(type(each) is int for each in clean)
    if type(step) is not int or not isinstance(what, str) or not (clean is None or is_place):
        return None
    return Suspicion(step, what, (clean[0], clean[1]) if clean is not None else None)


def clear_suspicion(folder: RunFolder) -> None:
    """Remove the note, on the process that writes."""
    if folder.is_writer:
        with contextlib.suppress(OSError):
            (folder.logs / NAME).unlink(missing_ok=True)
