"""Train segments of a run again, as one of several processes, and write down what comes out.

torchrun --nproc-per-node=2 -m signs_dist.proving.training_again FOLDER

FOLDER holds job.json, and gets findings.json. The command `prove` starts this program; on one process it calls
`find_here`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist.console.command import CommandParser, run_command
from signs_dist.errors import EXIT_OK
from signs_dist.proving.findings import Findings
from signs_dist.proving.job import Job

if TYPE_CHECKING:
    from signs_dist.training.process import Process

JOB, FINDINGS = "job.json", "findings.json"


def build_parser() -> CommandParser:
    """The program's arguments."""
    parser = CommandParser(
        prog="python -m signs_dist.proving.training_again",
        description="Train segments of a run again as one of its processes, and write down what comes out.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help=f"holds {JOB}, and gets {FINDINGS}")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Train again as the job says."""
    folder = build_parser().parse_args(arguments).folder
    findings = find_here(Job.from_dict(json.loads((folder / JOB).read_text(encoding="utf-8"))))
    if findings is not None:
        from signs_dist.files import write_json

        write_json(folder / FINDINGS, findings.as_dict())
    return EXIT_OK


def find_here(job: Job) -> Findings | None:
    """Train the segments of a job again as this process. Returns what comes out on rank 0, None on the others.

    Raises:
        UserError: the images or the network cannot be used.
    """
    from signs_dist.proving.retrainer import Retrainer
    from signs_dist.retraining.again import config_again
    from signs_dist.retraining.programs import run_here
    from signs_dist.retraining.recorded_run import read_recorded_run

    run = read_recorded_run(Path(job.run))
    config = config_again(run, data=job.data)
    found: list[Findings] = []

    def work(process: Process) -> dict[str, Any]:
        findings = Retrainer(job, run, process).find(config)
        if process.strategy.is_main:
            found.append(findings)
        return {}

    run_here(config, work, device=job.device)
    return found[0] if found else None


if __name__ == "__main__":
    sys.exit(run_command(main))
