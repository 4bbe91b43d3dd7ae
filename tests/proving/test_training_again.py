"""The program that trains segments again, and the one who starts it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.files import write_json
from signs_dist.proving.claim import open_run
from signs_dist.proving.findings import Findings
from signs_dist.proving.job import Job
from signs_dist.proving.segments import Segment
from signs_dist.proving.starting import train_again
from signs_dist.proving.training_again import main
from tests.proving.tampering import NUM_STEPS, train_a_run


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    run = train_a_run(tmp_path_factory.mktemp("run"), "train.epochs=2")
    subject = open_run(run).subject
    return Job(str(run), None, "cpu", [Segment(0, 3)], [1, 3], [3], [3, 6], subject, ["config", "data"], 2 * NUM_STEPS)


def test_the_program_writes_what_it_finds(job: Job, tmp_path: Path) -> None:
    write_json(tmp_path / "job.json", job.as_dict())
    assert main([str(tmp_path)]) == 0
    findings = Findings.from_dict(json.loads((tmp_path / "findings.json").read_text()))
    claim = open_run(Path(job.run))
    assert findings.states[3]["state"] == claim.states[0].state
    assert list(findings.states) == [3]
    assert [line["step"] for line in findings.lines] == [1, 3]
    assert (findings.same_bits, findings.same_images, findings.result) == (True, True, None)
    assert dataclasses.replace(findings, seconds=0) == dataclasses.replace(train_again(job, 1), seconds=0)


def test_images_that_are_gone_are_told(job: Job) -> None:
    with pytest.raises(UserError, match="nowhere"):
        train_again(Job.from_dict({**job.as_dict(), "data": "/nowhere"}), 1)
