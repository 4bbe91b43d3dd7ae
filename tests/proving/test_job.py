"""A job travels between processes as JSON."""

from __future__ import annotations

import json

from signs_dist.proving.job import Job
from signs_dist.proving.segments import Segment


def test_a_job_travels_as_json() -> None:
    job = Job("runs/a", None, "cpu", [Segment(0, 4)], [1, 2], [4], [4], {"config": "c"}, ["data"], 4)
    assert Job.from_dict(json.loads(json.dumps(job.as_dict()))) == job
