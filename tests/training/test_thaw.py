"""A backbone that thaws after some epochs: what trains when, and resuming before, at and after the thaw."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from signs_dist.checkpointing.store import Cursor, read_checkpoint
from signs_dist.checkpointing.tensors import plain_weights
from signs_dist.errors import UserError
from signs_dist.models.trainable import frozen_parameters
from signs_dist.training.exact_trial import require_exact
from tests.training.parts import make_stepper, make_trainer

THAWS = (
    *("model.name=signs_net", "model.args={channels: 4, dropout: 0.3}", "model.freeze=backbone"),
    *("model.thaw_after_epochs=1", "train.epochs=2", "ema.decay=0.9", "optim.clip_norm=1.0"),
)
GROUPS = ("optim.layer_decay=0.5", "optim.groups=[{match: head.*, lr: 0.2}]")
EXACT = ("exact=true", "train.micro_batch=2")
SAVED = ("checkpoint.every_steps=1", "checkpoint.keep=50")


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("mode", [(), EXACT], ids=["fast", "exact"])
def test_the_head_trains_first_and_then_everything(tmp_path: Path, mode: tuple[str, ...]) -> None:
    stepper, _ = make_stepper(tmp_path, *THAWS, *mode)
    states = [plain_weights(stepper.state.model)]
    for epoch in range(2):
        list(stepper.steps(Cursor(epoch, 0)))
        states.append(plain_weights(stepper.state.model))
    assert changed(states[0], states[1]) == {"head.weight", "head.bias"}
    # The gradient of a bias before BatchNorm is rounding noise, or 0.
    assert {name for name in states[0] if not name.endswith("bias")} <= changed(states[1], states[2])
    assert stepper.state.model.training
    assert frozen_parameters(stepper.state.model) == ()


def test_the_trial_of_exact_mode_leaves_the_backbone_frozen(tmp_path: Path) -> None:
    stepper, process = make_stepper(tmp_path, *THAWS, *EXACT)
    before = plain_weights(stepper.state.model)
    frozen = frozen_parameters(stepper.state.model)
    require_exact(stepper, process, None)
    assert frozen_parameters(stepper.state.model) == frozen != ()
    assert changed(before, plain_weights(stepper.state.model)) == set()
    list(stepper.steps(Cursor(0, 0)))
    assert changed(before, plain_weights(stepper.state.model)) == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    "mode",
    [("train.num_threads=1",), (*EXACT, *GROUPS, "optim.name=adamw", "optim.lr=0.01")],
    ids=["fast", "exact"],
)
def test_a_run_resumes_before_at_and_after_the_thaw_to_the_same_weights(tmp_path: Path, mode: tuple[str, ...]) -> None:
    settings = (*THAWS, *mode, *SAVED)
    made = make_trainer(tmp_path, *settings)
    made.saver.begin({})
    expected = made.trainer.train(time.perf_counter())["weights_sha256"]
    saved = {(cursor.epoch, cursor.step): path for cursor, path in made.saver.store.files()}
    for place in ((0, 3), (1, 0), (1, 1)):
        path = saved[place]
        again = make_trainer(tmp_path, *settings, run="again-{}-{}".format(*place))
        again.run_state.restore(read_checkpoint(path), again.stepper, path)
        again.saver.begin({})
        assert again.trainer.train(time.perf_counter())["weights_sha256"] == expected, path.name


def test_a_checkpoint_of_other_groups_is_resumed_without_the_state_of_the_optimizer(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, *THAWS, *EXACT, *SAVED)
    made.saver.begin({})
    made.trainer.train(time.perf_counter())
    newest = made.saver.newest()
    assert newest is not None
    other = make_trainer(tmp_path, *THAWS, *EXACT, *GROUPS, run="other")
    other.run_state.restore(read_checkpoint(newest), other.stepper, newest)
    assert not other.stepper.state.optimizer.state
    same = make_trainer(tmp_path, *THAWS, *EXACT, run="same")
    same.run_state.restore(read_checkpoint(newest), same.stepper, newest)
    assert same.stepper.state.optimizer.state


def test_a_group_that_matches_nothing_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"optim.groups entry 1: fc.\* matches no parameter that trains"):
        make_stepper(tmp_path, *THAWS, "optim.groups=[{match: fc.*, lr: 0.2}]")
