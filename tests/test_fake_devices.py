"""Where every tensor lives, without a GPU: fake tensors have a device and a shape, and refuse to mix devices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from signs_dist import loop, sync
from signs_dist.config import AugmentConfig, DataConfig, LossConfig
from signs_dist.data.augment import BatchAugmenter
from signs_dist.data.batches import Batch
from signs_dist.data.plan import MicroBatches
from signs_dist.ema import WeightAverage
from signs_dist.heartbeat import Pulse
from signs_dist.losses import build_loss
from signs_dist.precision import Precision
from signs_dist.strategy import DataParallel, Replicas, SingleProcess

AUGMENT = AugmentConfig(cutout=0.25)
DEVICES = [torch.device("cuda", 0), torch.device("cuda", 1)]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fake tensors, and nothing in place of what asks the driver: this torch sees no GPU."""

    class SilentFlags:
        def publish(self, flags: Tensor) -> list[float]:
            assert flags.device.type == "cuda"
            return [0.0, 0.0]

        def flush(self) -> list[float]:
            return [0.0, 0.0]

    monkeypatch.setattr(sync, "LateFlags", SilentFlags)
    monkeypatch.setattr(loop, "_seed", lambda device, key: None)
    monkeypatch.setattr("signs_dist.data.augment._pixel_centres_on", pixel_centres)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def pixel_centres(side: int, device: torch.device) -> Tensor:
    return (torch.arange(side, device=device, dtype=torch.float32) * 2 + 1) / side - 1


def network(device: torch.device) -> nn.Module:
    with device:  # made there: fake parameters cannot be moved
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, 5)
        )


def batch() -> Batch:
    return Batch(torch.zeros(12, 3, 8, 8, dtype=torch.uint8), torch.zeros(12, dtype=torch.int64), Numbers(12), 0, 0)


class Numbers:
    """Sample numbers are read on the host, which fake tensors cannot be."""

    def __init__(self, size: int) -> None:
        self.size = size

    def numpy(self) -> Any:
        import numpy as np

        return np.arange(self.size)

    def __getitem__(self, part: slice) -> Numbers:
        return Numbers(len(range(self.size)[part]))


@contextlib.contextmanager
def backward_without_a_driver(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Autograd's engine asks the driver for streams: here each parameter just gets a gradient like itself."""

    def backward(loss: Tensor) -> None:
        assert loss.device == device
        assert loss.shape == ()
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
            for hook in (getattr(parameter, "_post_accumulate_grad_hooks", None) or {}).values():
                hook(parameter)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", backward)
        yield


def train(device: torch.device, *, exact: bool, optimizer: type[torch.optim.Optimizer], count: int = 3) -> nn.Module:
    strategy = SingleProcess(device)
    model = network(device)
    forward = loop.ForwardWithLoss(model, build_loss(LossConfig(), 5), Precision("float32", "cuda"))
    state = loop.TrainingState(
        model=model,
        forward=strategy.wrap(forward, for_training=True, exact=exact),
        sync=strategy.sync(model, forward, MicroBatches(12 // count, count), lambda: False, exact=exact),
        num_classes=5,
        optimizer=optimizer(model.parameters(), lr=0.1),  # type: ignore[call-arg]
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        learning_rate=lambda _: 0.1,
        clip_norm=1.0,
        average=WeightAverage(model, 0.9),
        seed=3,
        pulse=Pulse(),
    )
    prepare = loop.ImagePreparer.create(
        DataConfig(), device, channels_last=True, augment=BatchAugmenter(AUGMENT, seed=0)
    )
    with backward_without_a_driver(model, device):
        for step in loop.train_epoch(state, [batch(), batch()], prepare, first_step=0, first_run_step=0):
            sums = step.sums.tensors()
    assert {tensor.device for tensor in sums.values()} == {device}
    assert state.average is not None
    assert {tensor.device for tensor in state.average.weights().values()} == {device}
    return model


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_a_training_step_stays_on_its_device(
    fake: None, device: torch.device, exact: bool, optimizer: type[torch.optim.Optimizer]
) -> None:
    model = train(device, exact=exact, optimizer=optimizer)
    assert {parameter.device for parameter in model.parameters()} == {device}
    assert {parameter.grad.device for parameter in model.parameters() if parameter.grad is not None} == {device}


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("flip_average", [False, True])
def test_an_evaluation_step_stays_on_its_device(fake: None, device: torch.device, flip_average: bool) -> None:
    model = network(device)
    judge = loop.Judge(model, build_loss(LossConfig(), 5), Precision("float32", "cuda"), flip_average=flip_average)
    prepare = loop.ImagePreparer.create(DataConfig(), device, channels_last=True)
    sums = loop.evaluate(SingleProcess(device).wrap(judge, for_training=False), [batch()], prepare, 5).tensors()
    assert {tensor.device for tensor in sums.values()} == {device}


def test_data_parallel_puts_each_micro_batch_on_its_own_device(fake: None) -> None:
    replicas = Replicas.__new__(Replicas)
    images, labels = torch.zeros(6, 3, 8, 8, device="cuda:1"), torch.zeros(6, dtype=torch.int64, device="cuda:1")
    for keys, devices in (([7, 8, 9], [1, 0, 2]), ([7, 8], [1, 0])):
        parts, named = replicas.scatter((images, labels, keys), None, [1, 0, 2])
        assert len(parts) == len(named) == len(keys)
        for (part, truth, own), key, index in zip(parts, keys, devices, strict=True):
            assert own == [key]
            assert part.device == truth.device == torch.device("cuda", index)
            assert len(part) == len(truth) == 6 // len(keys)
    assert DataParallel([torch.device("cuda", 1), torch.device("cuda", 0)]).device == torch.device("cuda", 1)


def test_a_batch_on_another_device_is_seen(fake: None) -> None:
    model = network(DEVICES[1])
    with pytest.raises(RuntimeError, match="device"):
        model(torch.zeros(2, 3, 8, 8))
