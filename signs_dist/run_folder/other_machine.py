"""A note in the run folder that a job's attempt is on machines that compute other bits than the run did.

The training writes it, and the decision on a requeue reads it: the job may come back without those machines.
"""

from __future__ import annotations

import json
from typing import Any

from signs_dist.run_folder.folder import RunFolder

NAME = "other-machine.json"
"""In the folder of the logs."""


def note_other_machine(folder: RunFolder, job: str, nodes: tuple[str, ...]) -> None:
    """Write the note; without effect outside of a SLURM job, and for a run that has not begun.

    Args:
        folder: the run folder.
        job: `JobAttempt.mark`.
        nodes: the machines that compute something else; empty: all of the job.
    """
    if job and folder.is_begun:
        folder.write_json(f"{folder.logs.name}/{NAME}", {"job": job, "nodes": list(nodes)})


def read_other_machine(folder: RunFolder, job: str) -> tuple[str, ...] | None:
    """The machines in the note of this attempt of a job; None without one."""
    try:
        values: Any = json.loads((folder.logs / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(values, dict) or values.get("job") != job or not isinstance(values.get("nodes"), list):
        return None
    return tuple(str(name) for name in values["nodes"])
