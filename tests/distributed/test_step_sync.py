"""What the micro-batches of a step have in common: gradients, buffers, dropout, flags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from signs_dist.config.settings import DataConfig, LossConfig
from signs_dist.data.batches import Batch
from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.step_sync import ExactSync, StepShare, StepSync, split_passes
from signs_dist.errors import NonFiniteLossError
from signs_dist.learning.losses import build_loss
from signs_dist.learning.precision import Precision
from signs_dist.models.trainable import freeze_backbone
from signs_dist.monitoring.pulse import Pulse
from signs_dist.training.image_preparer import ImagePreparer
from signs_dist.training.loop import ForwardWithLoss, TrainingState, train_epoch

CPU = torch.device("cpu")
NUM_IMAGES = 12


def network(*, dropout: float = 0.0, momentum: float | None = 0.1, norm: bool = True) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 3)]
    layers += [nn.BatchNorm2d(4, momentum=momentum)] if norm else []
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(4 * 36, 5))


def batch(step: int = 0, first: int = 0, end: int = NUM_IMAGES) -> Batch:
    generator = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (NUM_IMAGES, 3, 8, 8), dtype=torch.uint8, generator=generator)
    whole = Batch(images, torch.arange(NUM_IMAGES) % 5, torch.arange(NUM_IMAGES) + 100 * step, 0, step)
    return whole.part(first, end)


def state_of(
    model: nn.Module,
    count: int,
    *,
    exact: bool = False,
    shard: Shard | None = None,
    wants_stop: Callable[[], bool] = lambda: False,
    lr: float = 0.1,
) -> TrainingState:
    forward = ForwardWithLoss(model, build_loss(LossConfig(label_smoothing=0), 5), Precision("float32", "cpu"))
    micro_batches = MicroBatches(NUM_IMAGES // count, count)
    shard = shard or Shard()
    share = StepShare(model, micro_batches, shard, wants_stop)
    sync: StepSync = ExactSync(share, group=None) if exact else StepSync(share)
    return TrainingState(
        model=model,
        forward=forward,
        sync=sync,
        num_classes=5,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        learning_rate=lambda images_seen: lr,
        clip_norm=None,
        average=None,
        seed=7,
        pulse=Pulse(),
    )


def train(state: TrainingState, batches: list[Batch]) -> Iterator[Any]:
    prepare = ImagePreparer.create(DataConfig(), CPU, channels_last=False)
    return train_epoch(state, batches, prepare, first_step=0, first_run_step=0)


def prepared(images: Batch) -> Tensor:
    return ImagePreparer.create(DataConfig(), CPU, channels_last=False)(images)[0]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batchnorm_moves_once_a_step_by_the_mean(count: int, momentum: float | None, exact: bool) -> None:
    model = network(momentum=momentum)
    list(train(state_of(model, count, exact=exact, lr=1e-30), [batch(0), batch(1)]))
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    mean, var = torch.zeros(4), torch.ones(4)
    for step in range(2):
        activations = network()[0](prepared(batch(step))).detach().chunk(count)
        means = torch.stack([part.mean((0, 2, 3)) for part in activations]).mean(0)
        variances = torch.stack([part.transpose(0, 1).flatten(1).var(1) for part in activations]).mean(0)
        factor = momentum if momentum is not None else 1 / (step + 1)
        mean, var = mean + factor * (means - mean), var + factor * (variances - var)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, var)
    assert norm.num_batches_tracked is not None
    assert int(norm.num_batches_tracked) == 2


@pytest.mark.parametrize("exact", [False, True])
def test_frozen_statistics_keep_their_bits(exact: bool) -> None:
    model = network()
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    norm.running_mean.fill_(0.1)  # a third of it is no binary fraction
    freeze_backbone(model)
    before = norm.running_mean.clone()
    list(train(state_of(model, 3, exact=exact), [batch(0)]))
    assert torch.equal(norm.running_mean, before)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_gradient_is_that_of_the_whole_batch(count: int, exact: bool) -> None:
    expected = network(norm=False)
    nn.functional.cross_entropy(expected(prepared(batch())), batch().labels).backward()
    model = network(norm=False)
    list(train(state_of(model, count, exact=exact), [batch()]))
    for mine, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def losses_seen(state: TrainingState, batches: list[Batch]) -> dict[tuple[int, int], float]:
    seen: dict[tuple[int, int], float] = {}
    state.observe = lambda numbers, part, images, loss: seen.update({(part.step, numbers.start): loss.item()})
    list(train(state, batches))
    return seen


def test_dropout_depends_on_step_and_micro_batch_alone() -> None:
    alone = losses_seen(state_of(network(dropout=0.5), 4, lr=1e-30), [batch(0), batch(1)])
    half = [batch(step, NUM_IMAGES // 2) for step in range(2)]
    second = losses_seen(state_of(network(dropout=0.5), 4, lr=1e-30, shard=Shard(1, 2)), half)
    assert sorted(second) == [(0, 2), (0, 3), (1, 2), (1, 3)]
    assert second == {key: alone[key] for key in second}
    same_images = batch(0)._replace(step=1)
    repeated = losses_seen(state_of(network(dropout=0.5), 4, lr=1e-30), [batch(0), same_images])
    assert repeated[(0, 0)] != repeated[(1, 0)]


@pytest.mark.parametrize("exact", [False, True])
def test_a_loss_that_is_no_number_ends_before_the_weights_move(exact: bool) -> None:
    model = network(norm=False)
    state = state_of(model, 3, exact=exact)
    bad = batch(1)
    before: list[Tensor] = []

    def spoil(numbers: range, part: Batch, images: Tensor, loss: Tensor) -> None:
        if part.step == 1 and numbers.start == 2:
            before.extend(parameter.detach().clone() for parameter in model.parameters())
            loss.data.fill_(float("nan"))

    state.observe = spoil
    with pytest.raises(NonFiniteLossError) as raised:
        list(train(state, [batch(0), bad]))
    assert raised.value.found == [
        {"epoch": 1, "step": 2, "micro_batch": 2, "samples": bad.samples[8:].tolist()},
    ]
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("exact", [False, True])
def test_a_wish_to_stop_is_known_after_the_step(exact: bool) -> None:
    wishes = iter([False, False, True])
    state = state_of(network(), 2, exact=exact, wants_stop=lambda: next(wishes))
    agreed = [state.sync.stop_agreed for _ in train(state, [batch(step) for step in range(3)])]
    assert agreed == [False, False, True]


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_fused_optimizer_leaves_out_a_step_that_is_flagged(name: str) -> None:
    # What `StepSync.guard` relies on, on a GPU.
    parameter = nn.Parameter(torch.ones(3))
    optimizer: Any = getattr(torch.optim, name)([parameter], lr=0.1, fused=True)
    for found, expected in ((1.0, True), (0.0, False)):
        parameter.grad = torch.ones(3)
        optimizer.grad_scale, optimizer.found_inf = None, torch.tensor(found)
        optimizer.step()
        assert torch.equal(parameter, torch.ones(3)) == expected


def test_the_guard_is_for_gpus_only() -> None:
    state = state_of(network(), 1)
    state.sync.guard(state.optimizer)
    assert not hasattr(state.optimizer, "found_inf")


def test_passes() -> None:
    assert split_passes(range(2, 7), 2) == [range(2, 4), range(4, 6), range(6, 7)]
    assert split_passes(range(3), 1) == [range(1), range(1, 2), range(2, 3)]


def gradients_of(count: int, *, exact: bool) -> list[Tensor]:
    model = network(dropout=0.5)
    list(train(state_of(model, count, exact=exact), [batch(0), batch(1)]))
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_exact_mode_agrees_and_repeats(count: int) -> None:
    first, again, fast = (gradients_of(count, exact=exact) for exact in (True, True, False))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    for one, other in zip(first, fast, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("exact", [False, True])
def test_the_learning_rate_is_set_at_each_step(exact: bool) -> None:
    state = state_of(network(), 2, exact=exact)
    state.learning_rate = lambda images_seen: 1 / (1 + images_seen)
    rates = [
        (report.learning_rate, state.optimizer.param_groups[0]["lr"])
        for report in train(state, [batch(step) for step in range(3)])
    ]
    assert rates == [(1.0, 1.0), (1 / 13, 1 / 13), (1 / 25, 1 / 25)]


def test_a_first_step_that_the_scaler_skips_leaves_momentum_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty_like", lambda tensor: torch.full_like(tensor, float("nan")))
    state = state_of(network(), 1)
    state.optimizer = torch.optim.SGD(state.model.parameters(), lr=0.1, momentum=0.9, fused=True)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=float("inf"))
    list(train(state, [batch(0)]))
    momentum = [kept["momentum_buffer"] for kept in state.optimizer.state.values()]
    assert len(momentum) == len(list(state.model.parameters()))
    assert not any(bool(values.any()) for values in momentum)
