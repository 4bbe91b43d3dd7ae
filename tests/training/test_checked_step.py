"""Checks of the hardware: who is named, what is seen, and that nothing else changes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from signs_dist.checkpointing.store import Cursor, read_checkpoint
from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.config.reading import load_config
from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.cross_checks import recomputations
from signs_dist.errors import FaultyHardwareError, NonFiniteLossError, UserError
from signs_dist.training import checked_step as checked_step_module
from signs_dist.training.checked_step import CheckedStep
from signs_dist.training.run_state import Best
from signs_dist.training.stepper import Stepper
from tests.own_modules import module_writer
from tests.training.liars import (
    Fault,
    always_in_gradient,
    around_forward,
    at_step,
    flip_bit,
    in_activation_of,
    in_average,
    in_buffer,
    in_gradient_of,
    in_momentum,
    in_weight,
    ranks_of,
    train_ranks,
)
from tests.training.parts import make_process, make_stepper, make_trainer
from tests.training.test_cached_features import cached

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


@pytest.mark.parametrize(("world_size", "named"), [(3, [1]), (2, [0, 1])])
def test_a_process_that_receives_other_sums_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world_size: int, named: list[int]
) -> None:
    """It alone would see a difference, and wait for the others, which go on."""
    read = CheckedStep._read

    def read_wrong(check: CheckedStep, found: Any) -> None:
        if check._shard.index == 1 and found.place.run_step == CHECKED_STEP - 1:
            found.sums[5] ^= 1
        read(check, found)

    monkeypatch.setattr(CheckedStep, "_read", read_wrong)
    for outcome in train_ranks(tmp_path, world_size):
        assert outcome.error is not None
        assert (ranks_of(outcome.error), outcome.error.is_certain) == (named, world_size > 2)
        assert outcome.error.what == "what it received of the other processes' sums"


@pytest.mark.parametrize("fault", [in_pass("gradient", 1, 2), at_step(3, in_weight), at_step(3, in_momentum)])
def test_of_two_processes_either_may_be_wrong(tmp_path: Path, fault: Fault) -> None:
    for outcome in train_ranks(tmp_path, 2, faults={1: fault}):
        assert outcome.error is not None
        assert not outcome.error.is_certain
        assert ranks_of(outcome.error) == [0, 1]


def test_an_infinite_gradient_in_float16_is_settled_with_the_scale_of_its_step(tmp_path: Path) -> None:
    """It makes the scaler skip the step and scale the next losses less."""

    def scaled(stepper: Stepper, done: int) -> None:
        if not done:
            stepper.state.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def lie(stepper: Stepper, done: int) -> None:
        scaled(stepper, done)
        in_gradient_of(checked(1, 3), CHECKED_STEP - 1, math.inf)(stepper, done)

    for outcome in train_ranks(tmp_path, 3, faults={0: scaled, 1: lie, 2: scaled}):
        assert outcome.error is not None
        assert (outcome.error.is_certain, ranks_of(outcome.error)) == (True, [1])


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


ODD = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4)
            self.head = nn.Linear(4, num_classes, dtype=torch.float64)
            self.unused, self.empty = nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(0, 2))
            self.frozen = nn.Parameter(torch.ones(4, dtype=torch.bfloat16), requires_grad=False)

        def forward(self, images):
            found = self.norm(self.conv(images)).mean((2, 3)) * self.frozen.float()
            return self.head(found.double()).float()

    def make(num_classes, image_size):
        return Net(num_classes)
"""


@pytest.fixture
def odd_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Parameters of three kinds of numbers, one without gradient, one without elements, one that is frozen."""
    return f"model.name={module_writer(tmp_path, monkeypatch)(ODD)}:make"


def test_parameters_of_all_kinds_are_looked_at(tmp_path: Path, odd_network: str) -> None:
    odd = (odd_network, "model.args={}")
    plain = train_ranks(tmp_path, 3, *odd, "check.recompute_every=null")
    found = train_ranks(tmp_path, 3, *odd, "check.recompute_every=1")
    assert [outcome.error for outcome in found] == [None] * 3
    assert {outcome.sha256 for outcome in found} == {outcome.sha256 for outcome in plain}
    for name in ("frozen", "unused", "head.weight"):

        def act(stepper: Stepper, name: str = name) -> None:
            flip_bit(stepper.state.model.get_parameter(name), 9)

        for outcome in train_ranks(tmp_path, 3, *odd, faults={1: at_step(3, act)}):
            assert outcome.error is not None, name
            assert (ranks_of(outcome.error), outcome.error.what) == ([1], "the weights")


def trained(stepper: Stepper) -> str:
    for epoch in range(2):
        for _ in stepper.steps(Cursor(epoch, 0)):
            pass
    stepper.settle()
    return weights_sha256(stepper.state.model)


THAWS = ("model.freeze=backbone", "model.thaw_after_epochs=1", "ema.decay=0.9", "optim.clip_norm=1.0")


@pytest.mark.parametrize(
    "settings",
    [
        ("model.name=signs_net", "model.args={channels: 4, dropout: 0.3}", *THAWS),
        pytest.param(
            (
                *("model.name=torchvision:resnet18", "model.gradient_checkpointing=true", "train.epoch_steps=1"),
                *("data.image_size=32", "train.precision=float32"),
            ),
            marks=pytest.mark.slow,
        ),
        ("augment.backend=torchvision", "augment.transforms=[{RandomRotation: {degrees: 25}}]", "data.storage=files"),
        ("model.name=signs_net", "train.global_batch=8", "train.micro_batch=8"),
    ],
    ids=["thaw and dropout", "gradient checkpointing", "transforms of files", "one micro-batch"],
)
def test_a_single_process_has_the_weights_of_a_run_without_checks(tmp_path: Path, settings: tuple[str, ...]) -> None:
    exact = ("exact=true", *(() if "train.micro_batch=8" in settings else ("train.micro_batch=2",)), *settings)
    plain, _ = make_stepper(tmp_path, *exact)
    checked_one, _ = make_stepper(tmp_path, *exact, "check.recompute_every=1")
    assert trained(checked_one) == trained(plain)
    assert checked_one.check is not None
    assert checked_one.check.clean == Cursor(1, plain.prepared.plan.num_steps - 1)


def test_features_that_are_kept_are_the_input_of_the_recomputed_head(tmp_path: Path) -> None:
    exact = ("exact=true", "train.micro_batch=2")
    plain = Stepper(cached(tmp_path, *exact), make_process())
    checked_one = Stepper(cached(tmp_path, *exact, "check.recompute_every=1"), make_process())
    assert trained(checked_one) == trained(plain)
    assert checked_one.check is not None
    assert checked_one.check.clean == Cursor(1, 3)


def test_fast_mode_is_refused() -> None:
    with pytest.raises(UserError, match=r"check.recompute_every is not read with exact=false.*set exact=true"):
        load_config(None, ["check.recompute_every=1000"])


def test_without_checks_the_step_is_the_plain_one(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, "exact=true", "train.micro_batch=2")
    assert stepper.check is None
    assert stepper._do_step is checked_step_module.loop.train_step


class Late:
    """In place of an event of a GPU: notes when the host waits."""

    def __init__(self) -> None:
        self.num_waits = 0

    def synchronize(self) -> None:
        self.num_waits += 1


def test_on_a_gpu_the_sums_are_read_a_step_late_and_before_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = Late()
    monkeypatch.setattr(checked_step_module, "_to_host", lambda sums: (sums, event))
    stepper, _ = make_stepper(tmp_path, "exact=true", "train.micro_batch=2", "check.recompute_every=2")
    waits = [event.num_waits for _ in stepper.steps(Cursor(0, 0))]
    assert waits == [0, 0, 1, 1]
    stepper.settle()
    assert event.num_waits == 2
    stepper.settle()
    assert event.num_waits == 2


def test_a_difference_that_is_found_late_is_settled_with_the_weights_of_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checked_step_module, "_to_host", lambda sums: (sums, Late()))
    for outcome in train_ranks(tmp_path, 3, faults={1: in_pass("gradient", 1, 3)}):
        assert outcome.error is not None
        assert (outcome.error.step, ranks_of(outcome.error)) == (CHECKED_STEP, [1])


SAVES = ("exact=true", "train.micro_batch=2", "check.recompute_every=3", "checkpoint.every_steps=1")


def test_a_state_from_before_the_last_clean_check_stays(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, *SAVES, "checkpoint.keep=1", "evaluate.every_epochs=9", "train.epochs=2")
    made.trainer.train(0.0)
    # Of 8 steps, the third and the sixth are checked: the states from before step 6 are those up to 5 steps.
    names = [path.name for _, path in made.saver.store.files()]
    assert names == ["epoch-0002.pt", "epoch-0002-step-000001.pt"]
    content = read_checkpoint(made.folder.checkpoints / names[0])
    assert content["clean_check"] == {"epoch": 1, "step": 1}
    again = make_trainer(tmp_path, *SAVES, "train.epochs=2", run="again")
    again.run_state.restore(content, again.stepper, made.folder.checkpoints / names[0])
    assert again.stepper.check is not None
    assert again.stepper.check.clean == Cursor(1, 1)


def test_nothing_is_saved_once_a_difference_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_trainer(tmp_path, *SAVES)
    plain, stepper = made.stepper._do_step, made.stepper

    def do_step(*arguments: object, **places: int) -> None:
        if places["run_step"] == 5:
            in_gradient_of(recomputations(2, FOUR, 1)[0].number, 5)(stepper, 5)
        plain(*arguments, **places)

    monkeypatch.setattr(stepper, "_do_step", do_step)
    with pytest.raises(FaultyHardwareError, match=r"the newest of them is .*epoch-0001-step-000002.pt"):
        made.trainer.train(0.0)
    assert made.saver.store.files()[0][0] == Cursor(1, 1)


def test_a_hundred_recomputations_raise_no_false_alarm(tmp_path: Path) -> None:
    count_clean(tmp_path, num_epochs=9)


@pytest.mark.longer
@pytest.mark.timeout(3600)
def test_ten_thousand_recomputations_raise_no_false_alarm(tmp_path: Path) -> None:
    count_clean(tmp_path, num_epochs=834)


def count_clean(folder: Path, num_epochs: int) -> None:
    """Three ranks, of which each recomputes a micro-batch in each of an epoch's four steps."""
    settings = ("check.recompute_every=1", f"train.epochs={num_epochs}", "augment.backend=batch", "optim.lr=0.001")
    outcomes = train_ranks(folder, 3, *settings, num_epochs=num_epochs)
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert {outcome.clean for outcome in outcomes} == {Cursor(num_epochs - 1, 3)}


def test_the_best_state_of_the_state_that_stays_stays_too(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, *SAVES, "checkpoint.keep=1")
    made.saver.begin({"data": made.stepper.prepared.about_data()})
    assert made.stepper.check is not None
    for place, best in ((Cursor(1, 0), 1), (Cursor(1, 1), 1), (Cursor(2, 0), 2)):
        made.run_state.cursor, made.run_state.best = place, Best(best, 0.5, 0.5)
        made.stepper.check.clean = min(place, Cursor(1, 1))
        made.saver.save(made.run_state, made.stepper)
        made.saver.wait()
    names = [path.name for _, path in made.saver.store.files()]
    assert names == ["epoch-0002.pt", "epoch-0002-step-000001.pt", "epoch-0001.pt"]


def test_the_best_state_stays_also_where_an_earlier_attempt_saved_it(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, *SAVES, "checkpoint.keep=2")
    made.saver.begin({"data": made.stepper.prepared.about_data()})
    assert made.stepper.check is not None
    for place in (Cursor(1, 0), Cursor(1, 1), Cursor(2, 0)):
        made.run_state.cursor, made.run_state.best = place, Best(1 + place.epoch // 2, 0.5, 0.5)
        made.stepper.check.clean = min(place, Cursor(1, 1))
        made.saver.save(made.run_state, made.stepper)
        made.saver.wait()
    again = make_trainer(tmp_path, *SAVES, "checkpoint.keep=1")
    again.saver.begin({"data": made.stepper.prepared.about_data()}, made.folder.checkpoints / "epoch-0002.pt")
    assert again.stepper.check is not None
    again.stepper.check.clean = Cursor(1, 1)
    again.run_state.cursor, again.run_state.best = Cursor(2, 1), Best(2, 0.5, 0.5)
    again.saver.save(again.run_state, again.stepper)
    again.saver.wait()
    names = [path.name for _, path in again.saver.store.files()]
    assert names == ["epoch-0003-step-000001.pt", "epoch-0002.pt", "epoch-0002-step-000001.pt", "epoch-0001.pt"]


def test_a_loss_that_is_not_finite_does_not_hide_what_a_check_before_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checked_step_module, "_to_host", lambda sums: (sums, Late()))
    fault = in_pass("gradient", 1, 3)

    def act(stepper: Stepper, done: int) -> None:
        fault(stepper, done)
        if done == CHECKED_STEP:  # the step after the check, before its sums are read
            next(stepper.state.model.parameters()).data.fill_(float("nan"))

    for outcome in train_ranks(tmp_path, 3, faults={1: act}):
        assert outcome.error is not None
        assert (outcome.error.step, ranks_of(outcome.error)) == (CHECKED_STEP, [1])


def test_a_loss_that_is_not_finite_within_a_check_is_the_fault_of_the_one_who_has_it(tmp_path: Path) -> None:
    """An infinity in a checked micro-batch reaches the loss, for which all processes would end."""
    number = checked(1, 3)

    def act(stepper: Stepper) -> None:
        around_forward(stepper, number, lambda output: output.fill_(float("inf")))

    for outcome in train_ranks(tmp_path, 3, faults={1: at_step(CHECKED_STEP - 1, act)}):
        assert outcome.error is not None
        assert ranks_of(outcome.error) == [1]


def test_a_run_that_diverges_ends_as_without_checks(tmp_path: Path) -> None:
    stepper, _ = make_stepper(
        tmp_path, "exact=true", "train.micro_batch=2", "check.recompute_every=1", "model.name=signs_net"
    )
    next(stepper.state.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError):
        next(stepper.steps(Cursor(0, 0)))
