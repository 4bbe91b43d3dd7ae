"""The network alone: what a plain script computes on random tensors, without images, logs or saves."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor

from signs_dist.config.settings import Config
from signs_dist.distributed.exactness import threads_kept
from signs_dist.learning.losses import build_loss
from signs_dist.learning.optim import build_optimizer
from signs_dist.learning.precision import Precision, choose_precision, find_capability
from signs_dist.models.trainable import set_training_mode
from signs_dist.training.prepare import build_model
from signs_dist.tuning.rounds import Work
from signs_dist.tuning.variants import Variant

SMALL_STEP = 1e-6
"""The learning rate, a factor on that of the config: weights that grow to infinity would change the speed."""


def synchronize(device: torch.device) -> None:
    """Wait until the device has computed all that was started; on a CPU it has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class BareNetwork:
    """The network of a config in one memory format, with its optimizer and a batch of random images.

    Args:
        config: all settings.
        num_classes: of the data.
        batch: images of a step, which go through the network at once.
        device: of the network.
        channels_last: the memory format of images and weights.

    Attributes:
        model: the network.
        optimizer: that of the config, with a learning rate that leaves the weights nearly as they are.
    """

    def __init__(
        self, config: Config, num_classes: int, batch: int, device: torch.device, *, channels_last: bool
    ) -> None:
        train = config.train.model_copy(update={"channels_last": channels_last})
        config = config.model_copy(update={"train": train})
        self._device = device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            self.model = build_model(config, num_classes, device)
            side = config.data.image_size
            images = torch.randn(batch, 3, side, side, device=device)
            self._labels = torch.randint(num_classes, (batch,), device=device)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._images = images.contiguous(memory_format=layout)
        self._loss_function = build_loss(config.loss, num_classes)
        self.optimizer = build_optimizer(self.model, config.optim)
        for group in self.optimizer.param_groups:
            group["lr"] *= SMALL_STEP
        set_training_mode(self.model)

    def way(self, num_threads: int, precision: str) -> Work:
        """Steps in so many threads and this precision."""
        computed = choose_precision(precision, find_capability(self._device))
        scaler = computed.scaler()

        def work(num_steps: int) -> None:
            with threads_kept(num_threads):
                for _ in range(num_steps):
                    self._backward(self._forward(computed), scaler)
                    self._step(scaler)
                synchronize(self._device)

        return work

    def split(self, seconds: float, num_threads: int, precision: str) -> dict[str, float]:
        """The median seconds of forward pass and loss, of the backward pass, and of the optimizer.

        Args:
            seconds: to spend, about; at least one step is measured.
            num_threads: of one operation.
            precision: of the forward pass.
        """
        computed = choose_precision(precision, find_capability(self._device))
        scaler = computed.scaler()
        names = ("forward and loss", "backward", "optimizer")
        found: dict[str, list[float]] = {name: [] for name in names}
        begun = time.perf_counter()
        with threads_kept(num_threads):
            while not found["optimizer"] or time.perf_counter() - begun < seconds:
                times = [self._now()]
                loss = self._forward(computed)
                times.append(self._now())
                self._backward(loss, scaler)
                times.append(self._now())
                self._step(scaler)
                times.append(self._now())
                for name, earlier, later in zip(names, times, times[1:], strict=False):
                    found[name].append(later - earlier)
        return {name: statistics.median(values) for name, values in found.items()}

    def _now(self) -> float:
        synchronize(self._device)
        return time.perf_counter()

    def _forward(self, precision: Precision) -> Tensor:
        with precision.autocast():
            logits = self.model(self._images)
        return self._loss_function(logits, self._labels).mean()

    def _backward(self, loss: Tensor, scaler: torch.amp.GradScaler) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def _step(self, scaler: torch.amp.GradScaler) -> None:
        scaler.step(self.optimizer)
        scaler.update()


def seconds_per_image(config: Config, num_classes: int, most: int, device: torch.device, variant: Variant) -> float:
    """A first look at how long an image takes: two steps of a few images, of which the second is measured."""
    batch = min(4, most)
    network = BareNetwork(config, num_classes, batch, device, channels_last=variant.channels_last)
    work = network.way(variant.num_threads, variant.precision)
    work(1)
    started = time.perf_counter()
    work(1)
    return (time.perf_counter() - started) / batch
