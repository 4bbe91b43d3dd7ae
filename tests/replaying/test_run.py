"""Replaying steps of a run as one process: the bits of the run, wherever they begin."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from signs_dist.checkpointing.store import read_checkpoint
from signs_dist.errors import UserError
from signs_dist.replaying.evidence import Recorded, judge, read_recorded
from signs_dist.replaying.request import Request
from signs_dist.replaying.run import Replayed
from signs_dist.replaying.starting import replay_here
from signs_dist.retraining.recorded_run import BEGINNING, State, read_recorded_run


def replayed(path: Path, first: int, last: int, start: State | None = None, **how: object) -> Replayed:
    run = read_recorded_run(path)
    request = Request(str(path), first, last, **how)  # type: ignore[arg-type]
    return replay_here(run, start or run.newest_before(first - 1)[0], request, read_recorded(run.folder))


def bytes_of(run: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "", path.stat().st_mtime_ns)
        for path in [run, *run.rglob("*")]
    }


@pytest.mark.parametrize(("first", "last"), [(1, 1), (4, 4), (5, 5), (3, 6), (8, 8)])
def test_from_any_state_the_bits_are_those_of_the_run(exact_run: Path, first: int, last: int) -> None:
    before = bytes_of(exact_run)
    found = replayed(exact_run, first, last, keeps_tensors=True, checks=True)
    assert [step.step for step in found.steps] == list(range(first, last + 1))
    assert [(step.epoch, step.step_of_epoch) for step in found.steps] == [
        ((step - 1) // 4 + 1, (step - 1) % 4 + 1) for step in range(first, last + 1)
    ]
    compared = found.compared
    assert (compared.same_bits, compared.same_images) == (True, True)
    assert compared.samples == [(step, True) for step in range(first, last + 1)]
    assert compared.states
    assert max(step for step, _ in compared.states) >= last
    assert {step for step, _, _ in compared.losses} >= set(range(first, last + 1))
    assert judge(compared, first, last).level == "same bits"
    saved = exact_run / "checkpoints" / "epoch-0002.pt"
    if last == 8:
        weights = read_checkpoint(saved)["model"]
        after = found.steps[-1].weights_after
        assert after is not None
        assert all(torch.equal(after[name], tensor) for name, tensor in weights.items())
    assert bytes_of(exact_run) == before


def test_from_the_beginning_and_from_a_state_a_step_is_the_same(exact_run: Path) -> None:
    one = replayed(exact_run, 5, 5, keeps_tensors=True)
    other = replayed(exact_run, 5, 5, BEGINNING, keeps_tensors=True)
    assert (one.trained_steps, other.trained_steps) == (0, 4)
    for left, right in zip(one.steps[0].micro_batches, other.steps[0].micro_batches, strict=True):
        assert left.events == right.events
        assert torch.equal(left.images, right.images)
        assert left.gradients is not None
        assert right.gradients is not None
        assert all(torch.equal(tensor, right.gradients[name]) for name, tensor in left.gradients.items())
    assert other.steps[0].gradient_norm == one.steps[0].gradient_norm


def test_another_state_than_the_run_wrote_down_is_seen(exact_run: Path) -> None:
    run = read_recorded_run(exact_run)
    recorded = read_recorded(run.folder)
    wrong = Recorded(recorded.losses, {6: "0" * 64}, 8)
    found = replay_here(run, run.newest_before(4)[0], Request(str(exact_run), 5, 5, checks=True), wrong)
    assert found.compared.states == [(6, False)]
    assert judge(found.compared, 5, 5).level == "other bits"


def test_steps_and_micro_batches_that_the_plan_does_not_have_are_refused(exact_run: Path) -> None:
    with pytest.raises(UserError, match=r"--step 9 lies after the end of the run. Its steps count from 1 to 8"):
        replayed(exact_run, 9, 9)
    with pytest.raises(UserError, match=r"--micro-batch 4: .* from 0 to 3"):
        replayed(exact_run, 8, 8, micro_batch=4)


def test_one_micro_batch_has_no_samples_to_compare(exact_run: Path) -> None:
    found = replayed(exact_run, 8, 8, micro_batch=3)
    assert [each.number for each in found.steps[0].micro_batches] == [3]
    assert found.compared.samples == []
