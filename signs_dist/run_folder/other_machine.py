"""A note in the run folder that a job's attempt is on machines that it should not come back to.

They compute other bits than the run did, or wrong results.

The training writes it, and the decision on a requeue reads it: the job may come back without those machines.
"""

from __future__ import annotations

import json
from typing import Any

from signs_dist.run_folder.folder import RunFolder

NAME = "other-machine.json"
"""In the folder of the logs."""
OTHER_BITS = "computes other bits than the run did"
WRONG_RESULTS = "gave wrong results"


def note_other_machine(folder: RunFolder, job: str, nodes: tuple[str, ...], why: str = OTHER_BITS) -> None:
    """Write the note; without effect outside of a SLURM job, and for a run that has not begun.

    Args:
        folder: the run folder.
        job: `JobAttempt.mark`.
        nodes: the machines that compute something else; empty: all of the job.
        why: what is wrong with them: `OTHER_BITS` or `WRONG_RESULTS`.
    """
    if job and folder.is_begun:
        folder.write_json(f"{folder.logs.name}/{NAME}", {"job": job, "nodes": list(nodes), "why": why})


def read_other_machine(folder: RunFolder, job: str) -> tuple[str, ...] | None:
    """The machines in the note of this attempt of a job; None without one."""
    values = _read(folder, job)
    return tuple(str(name) for name in values["nodes"]) if values is not None else None


def read_why(folder: RunFolder, job: str) -> str:
    """What is wrong with these machines; `OTHER_BITS` also without a note."""
    return WRONG_RESULTS if (_read(folder, job) or {}).get("why") == WRONG_RESULTS else OTHER_BITS


def _read(folder: RunFolder, job: str) -> dict[str, Any] | None:
    try:
        values: Any = json.loads((folder.logs / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_note = isinstance(values, dict) and values.get("job") == job and isinstance(values.get("nodes"), list)
    return values if is_note else None
