"""Training segments again on a number of processes of this machine."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from signs_dist.environment.subprocesses import count_processes, failure_of, launch_command, started
from signs_dist.files import write_json
from signs_dist.proving.findings import Findings
from signs_dist.proving.job import Job
from signs_dist.proving.training_again import FINDINGS, JOB, find_here


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
        command = launch_command("signs_dist.proving.training_again", num_processes, [str(folder)])
        with started(command, folder / "output") as process:
            code = process.wait()
        if code:
            raise failure_of(f"training again on {count_processes(num_processes)}", code, folder / "output")
        return Findings.from_dict(json.loads((folder / FINDINGS).read_text(encoding="utf-8")))
