"""Which steps are replayed: legal ones, and those of a failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.replaying.request import (
    FailedMicroBatch,
    Request,
    check_micro_batch,
    check_processes,
    checked_steps,
    read_failure,
)


def test_one_step_or_several() -> None:
    assert checked_steps(5, None, 20) == (5, 5)
    assert checked_steps(5, 8, 20) == (5, 8)
    assert checked_steps(5, None, None) == (5, 5)


@pytest.mark.parametrize(
    ("step", "until", "told"),
    [
        (0, None, "--step 0: steps of a run count from 1 to 20 (2 epochs of 10 steps)"),
        (-3, None, "--step -3: steps of a run count from 1"),
        (21, None, "--step 21 lies after the end of the run. Its steps count from 1 to 20"),
        (5, 21, "--until 21 lies after the end of the run"),
        (5, 4, "--until 4 lies before --step 5. Type --until 5"),
    ],
)
def test_other_steps_are_refused(step: int, until: int | None, told: str) -> None:
    with pytest.raises(UserError) as caught:
        checked_steps(step, until, 20, " (2 epochs of 10 steps)")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("number", "count", "told"), [(4, 4, "from 0 to 3"), (-1, 4, "from 0 to 3"), (1, 1, "0 alone")]
)
def test_other_micro_batches_are_refused(number: int, count: int, told: str) -> None:
    check_micro_batch(None, count)
    check_micro_batch(0, count)
    with pytest.raises(UserError, match=f"--micro-batch {number}: the micro-batches of a step of this run are {told}"):
        check_micro_batch(number, count)


@pytest.mark.parametrize("number", [0, 5])
def test_more_processes_than_micro_batches_are_refused(number: int) -> None:
    check_processes(4, 4)
    with pytest.raises(UserError, match=f"--processes {number}: a step of this run has 4 micro-batches. Type 1 to 4"):
        check_processes(number, 4)


def write_failure(folder: Path, *rows: object) -> None:
    (folder / "non_finite_loss.json").write_text(json.dumps({"micro_batches": rows}))


def test_a_failure_is_its_first_step(tmp_path: Path) -> None:
    row = {"epoch": 2, "step": 3, "micro_batch": 5, "samples": [7, 8], "rank": 0, "files": ["a", "b"]}
    write_failure(tmp_path, row | {"step": 4}, row, row | {"micro_batch": 1}, "torn", {"epoch": 1})
    assert [(each.step, each.micro_batch) for each in read_failure(tmp_path)] == [(3, 1), (3, 5)]
    first = read_failure(tmp_path)[0]
    assert first == FailedMicroBatch(2, 3, 1, (7, 8))
    assert first.run_step(10) == 13
    with pytest.raises(UserError, match="epoch 2, step 3, and nothing in the run folder tells how many steps"):
        first.run_step(None)
    assert FailedMicroBatch(1, 3, 1, ()).run_step(None) == 3


def test_a_run_without_a_failure(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no non_finite_loss.json: no loss of this run .* Type --step N"):
        read_failure(tmp_path)
    write_failure(tmp_path)
    with pytest.raises(UserError, match="names no micro-batch"):
        read_failure(tmp_path)
    (tmp_path / "non_finite_loss.json").write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        read_failure(tmp_path)


def test_a_request_travels_as_json() -> None:
    request = Request("runs/a b", 3, 5, micro_batch=2, data="photos", keeps_tensors=True, checks=True)
    assert Request.from_json(request.to_json()) == request
