"""One of several processes writes what it saw into the folder of its task."""

from __future__ import annotations

from pathlib import Path

import torch

from signs_dist.replaying.evidence import Compared, read_recorded
from signs_dist.replaying.program import main
from signs_dist.replaying.records import from_plain
from signs_dist.replaying.request import Request
from signs_dist.replaying.starting import task_to_json
from signs_dist.retraining.recorded_run import read_recorded_run
from tests.replaying.test_run import replayed


def test_it_writes_what_a_replay_sees(exact_run: Path, tmp_path: Path) -> None:
    run = read_recorded_run(exact_run)
    request = Request(str(exact_run), 5, 5)
    task = task_to_json(run.newest_before(4)[0], request, read_recorded(run.folder))
    (tmp_path / "task.json").write_text(task)
    assert main([str(tmp_path)]) == 0
    content, expected = torch.load(tmp_path / "rank0.pt", weights_only=True), replayed(exact_run, 5, 5)
    (step,) = from_plain(content["steps"])
    assert [each.events for each in step.micro_batches] == [each.events for each in expected.steps[0].micro_batches]
    assert Compared.from_plain(content["compared"]).samples == expected.compared.samples == [(5, True)]
    assert content["files"] == expected.files
