"""A copy of what a step changes: put back, the step gives the same bits again."""

from __future__ import annotations

import torch
from torch import nn

from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.step_sync import StepShare, StepSync
from signs_dist.diverging.snapshot import Snapshot
from signs_dist.learning.weight_average import WeightAverage
from signs_dist.monitoring.pulse import Pulse
from signs_dist.training.loop import TrainingState


class Counting(nn.Sequential):
    """A network that counts its calls."""

    calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(images) * self.calls


def make_state(optimizer: type[torch.optim.Optimizer]) -> TrainingState:
    torch.manual_seed(0)
    model = Counting(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model.calls = 0
    return TrainingState(
        model=model,
        forward=model,
        sync=StepSync(StepShare(model, MicroBatches(4, 1), Shard(0, 1))),
        num_classes=3,
        optimizer=optimizer(model.parameters(), lr=0.1),  # type: ignore[call-arg]
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        learning_rate=lambda images: 0.1,
        clip_norm=None,
        average=WeightAverage(model, 0.9),
        seed=0,
        pulse=Pulse(),
    )


def step(state: TrainingState) -> tuple[str, ...]:
    """Do a step. Returns digests of all that it changes."""
    images = torch.arange(12.0).reshape(4, 3) / 10
    state.optimizer.zero_grad()
    (state.model(images) ** 2).sum().backward()
    state.optimizer.step()
    assert state.average is not None
    state.average.update()
    tensors = [value for entries in state.optimizer.state.values() for value in entries.values()]
    return (
        weights_sha256(state.model),
        weights_sha256(state.average.weights()),
        weights_sha256({str(number): value for number, value in enumerate(tensors)}),
        str(state.average.num_updates),
        str(state.model.calls),
    )


def test_a_step_is_done_again_from_the_same_state() -> None:
    for optimizer in (torch.optim.Adam, torch.optim.Adagrad):
        state = make_state(optimizer)
        for _ in range(2):  # before the first step the optimizer has no state
            before = Snapshot(state)
            first = step(state)
            for _ in range(2):
                before.restore(state)
                assert step(state) == first
