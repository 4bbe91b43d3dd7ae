"""Checks of the hardware: who is named, what is seen, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.checkpointing.store import Cursor
from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.cross_checks import recomputations
from tests.training.liars import (
    Fault,
    always_in_gradient,
    at_step,
    in_activation_of,
    in_average,
    in_buffer,
    in_gradient_of,
    in_momentum,
    in_weight,
    ranks_of,
    train_ranks,
)

FOUR = MicroBatches(2, 4)
CHECKED_STEP = 4
"""Of the run, from 1: with check.recompute_every=2 its second check."""


def checked(owner: int, world_size: int) -> int:
    """The micro-batch of a rank that another one recomputes in CHECKED_STEP."""
    tasks = recomputations(CHECKED_STEP // 2, FOUR, world_size)
    return next(task.number for task in tasks if task.owner == owner)


def in_pass(kind: str, rank: int, world_size: int) -> Fault:
    make = {"gradient": in_gradient_of, "activation": in_activation_of}[kind]
    return make(checked(rank, world_size), CHECKED_STEP - 1)


@pytest.mark.parametrize(("world_size", "liar"), [(3, 0), (3, 2), (4, 1)])
@pytest.mark.parametrize("kind", ["gradient", "activation"])
def test_a_flip_in_the_checked_micro_batch_is_settled_by_a_third_process(
    tmp_path: Path, kind: str, world_size: int, liar: int
) -> None:
    for outcome in train_ranks(tmp_path, world_size, faults={liar: in_pass(kind, liar, world_size)}):
        assert outcome.error is not None
        assert outcome.error.is_certain
        assert ranks_of(outcome.error) == [liar]
        assert outcome.error.suspects[0].host == f"host{liar}"
        assert outcome.error.suspects[0].device == f"device {liar}"
        assert outcome.error.what == f"the gradient of micro-batch {checked(liar, world_size)}"
        assert outcome.error.step == CHECKED_STEP
        assert outcome.error.clean == outcome.clean == Cursor(0, 1)  # before step 2, the first that was checked


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (in_weight, "the weights"),
        (in_buffer, "the buffers"),
        (in_momentum, "the optimizer's state"),
        (in_average, "the average of the weights"),
    ],
)
@pytest.mark.parametrize(("world_size", "liar"), [(3, 1), (4, 0)])
def test_a_flip_in_what_all_have_a_copy_of_names_the_odd_one(
    tmp_path: Path, act: Fault, what: str, world_size: int, liar: int
) -> None:
    """At the beginning of a step with a check; a step later the flip would be in the weights as well."""
    faults = {liar: at_step(CHECKED_STEP - 1, act)}
    for outcome in train_ranks(tmp_path, world_size, faults=faults):
        assert outcome.error is not None
        assert (outcome.error.is_certain, ranks_of(outcome.error), outcome.error.what) == (True, [liar], what)


def test_a_flip_in_a_weight_lasts_until_the_next_check(tmp_path: Path) -> None:
    for outcome in train_ranks(tmp_path, 3, faults={2: at_step(CHECKED_STEP, in_weight)}):
        assert outcome.error is not None
        assert outcome.error.step == CHECKED_STEP + 2
        assert outcome.clean == Cursor(0, 3)
        assert ranks_of(outcome.error) == [2]


@pytest.mark.parametrize("fault", [in_pass("gradient", 1, 2), at_step(3, in_weight), at_step(3, in_momentum)])
def test_of_two_processes_either_may_be_wrong(tmp_path: Path, fault: Fault) -> None:
    for outcome in train_ranks(tmp_path, 2, faults={1: fault}):
        assert outcome.error is not None
        assert not outcome.error.is_certain
        assert ranks_of(outcome.error) == [0, 1]


def test_a_process_that_is_always_wrong_is_named_at_the_first_check(tmp_path: Path) -> None:
    for outcome in train_ranks(tmp_path, 3, faults={1: always_in_gradient}):
        assert outcome.error is not None
        assert ranks_of(outcome.error) == [1]
        assert (outcome.error.step, outcome.error.clean) == (2, None)


def test_a_flip_elsewhere_is_not_seen(tmp_path: Path) -> None:
    """As the documents say: it reaches all processes in the sum, and their weights stay equal."""
    other = next(number for number in FOUR.of(Shard(0, 3)) if number != checked(0, 3))
    outcomes = train_ranks(tmp_path, 3, faults={0: in_gradient_of(other, CHECKED_STEP - 1)})
    assert all(outcome.error is None for outcome in outcomes)
    assert len({outcome.sha256 for outcome in outcomes}) == 1


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("optim.name=adamw", "optim.clip_norm=0.5", "augment.backend=batch", "augment.mixup=0.5"),
        ("train.precision=bfloat16", "train.channels_last=true", "train.shard_optimizer=true"),
    ],
)
@pytest.mark.parametrize("world_size", [2, 3])
def test_the_weights_are_those_of_a_run_without_checks(
    tmp_path: Path, settings: tuple[str, ...], world_size: int
) -> None:
    plain = train_ranks(tmp_path, world_size, *settings, "check.recompute_every=null")
    found = train_ranks(tmp_path, world_size, *settings, "check.recompute_every=1")
    assert {outcome.sha256 for outcome in found} == {outcome.sha256 for outcome in plain}
    assert [outcome.error for outcome in found] == [None] * world_size
    assert {outcome.clean for outcome in found} == {Cursor(1, 3)}


def test_a_single_process_recomputes_its_own_micro_batches(tmp_path: Path) -> None:
    outcome = train_ranks(tmp_path, 1, faults={0: in_pass("gradient", 0, 1)})[0]
    assert outcome.error is not None
    assert ranks_of(outcome.error) == [0]
