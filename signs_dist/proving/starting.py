"""Training segments again on a number of processes of this machine."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from signs_dist.environment.subprocesses import run_on_processes
from signs_dist.files import write_json
from signs_dist.proving.findings import Findings
from signs_dist.proving.job import Job
from signs_dist.proving.training_again import FINDINGS, JOB, find_here

LONGEST_SECONDS = 30 * 24 * 3600.0
"""The processes' own limits end them earlier, unless their launcher hangs."""


def train_again(job: Job, num_processes: int) -> Findings:
    """Train the segments of a job again. Returns what comes out.

    Args:
        job: what to train again.
        num_processes: of this machine. One is this process itself.

    Raises:
        UserError: the images or the network cannot be used.
        TrainingFailedError: the processes failed; the message ends with the last lines that they printed.
    """
    if num_processes == 1:
        findings = find_here(job)
        assert findings is not None
        return findings
    with tempfile.TemporaryDirectory(prefix="signs_dist-prove-") as name:
        folder = Path(name)
        write_json(folder / JOB, job.as_dict())
        run_on_processes(
            "signs_dist.proving.training_again",
            num_processes,
            [str(folder)],
            folder / "output",
            longest_seconds=LONGEST_SECONDS,
        )
        return Findings.from_dict(json.loads((folder / FINDINGS).read_text(encoding="utf-8")))
