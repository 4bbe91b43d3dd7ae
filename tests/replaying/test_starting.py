"""Replaying on several processes: what travels to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.checkpointing.cursor import Cursor
from signs_dist.replaying.evidence import Recorded
from signs_dist.replaying.request import Request
from signs_dist.replaying.starting import task_from_json, task_to_json
from signs_dist.retraining.recorded_run import BEGINNING, State


@pytest.mark.parametrize("start", [BEGINNING, State(Cursor(1, 2), 6, Path("runs/a b/checkpoints/epoch.pt"))])
def test_a_task_travels_as_json(start: State) -> None:
    request = Request("runs/a b", 3, 5, micro_batch=2, device="cpu", checks=True)
    recorded = Recorded({3: 0.1 + 0.2, 4: 1e-300}, {4: "abc"}, 4)
    assert task_from_json(task_to_json(start, request, recorded)) == (start, request, recorded)
