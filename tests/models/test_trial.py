"""Which networks exact mode refuses, with which words, and which it accepts."""

from __future__ import annotations

import itertools
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

from signs_dist.config.settings import ModelConfig
from signs_dist.distributed.exactness import arithmetic_kept
from signs_dist.models import create_model
from signs_dist.models.registry import BUILDERS
from signs_dist.models.trainable import freeze_backbone
from signs_dist.models.trial import Trial, find_fault

SIDE = 16
CALLS = 0


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in exact mode."""
    with arithmetic_kept():
        torch.set_num_threads(1)
        yield


def make_trial(model: nn.Module, *, side: int = SIDE, num_images: int = 4, is_split: bool = True) -> Trial:
    """A trial as a run makes it: dropout is seeded in training, nothing is seeded in evaluation."""
    draws = torch.Generator().manual_seed(1)

    def losses(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(images)
        return nn.functional.cross_entropy(logits, labels, reduction="none"), logits

    def train(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        torch.default_generator.manual_seed(5)
        return losses(images, labels)

    @torch.inference_mode()
    def evaluate(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return losses(images, labels)

    images = torch.randn(num_images, 3, side, side, generator=draws)
    return Trial(model, train, evaluate, images, torch.arange(num_images) % 3, is_split)


def fault_of(model: nn.Module, **options: Any) -> str:
    return find_fault(make_trial(model, **options))[1]


class Base(nn.Module):
    """Means of the colours, and a linear layer; variants change `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.prepare()

    def prepare(self) -> None:
        """Set up what a variant needs."""

    def change(self, images: Tensor) -> Tensor | float | None:
        """What a variant adds to the logits."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        added = self.change(images)
        logits: Tensor = self.head(self.norm(images).mean((2, 3)))
        return logits if added is None else logits + added


class Counter(Base):
    def prepare(self) -> None:
        self.n = 0

    def change(self, images: Tensor) -> Tensor | float | None:
        self.n += 1
        return 0.5 if self.n % 20 == 0 else None


class CounterInHelper(Base):
    def prepare(self) -> None:
        self.tracker = SimpleNamespace(n=0)
        self.book = Book()

    def change(self, images: Tensor) -> Tensor | float | None:
        self.book.pages[-1]["n"] += 1
        return None


class Book:
    __slots__ = ("pages",)

    def __init__(self) -> None:
        self.pages = [{"n": 0}]


class GrowingList(Base):
    def prepare(self) -> None:
        self.history: list[float] = []

    def change(self, images: Tensor) -> Tensor | float | None:
        self.history.append(float(images.mean()))
        return None


class PlainTensor(Base):
    def prepare(self) -> None:
        self.mean = torch.zeros(3)

    def change(self, images: Tensor) -> Tensor | float | None:
        self.mean = 0.9 * self.mean + 0.1 * images.mean((0, 2, 3)).detach()
        return None


class InPlaceArray(Base):
    def prepare(self) -> None:
        self.sums = np.zeros(3)

    def change(self, images: Tensor) -> Tensor | float | None:
        self.sums += 1
        return None


class LargestSeen(Base):
    """Fills like a cache with the same images, and moves with others."""

    def prepare(self) -> None:
        self.largest = 0.0

    def change(self, images: Tensor) -> Tensor | float | None:
        self.largest = max(self.largest, float(images.abs().max()))
        return None


class Toggle(Base):
    def prepare(self) -> None:
        self.is_odd = False

    def change(self, images: Tensor) -> Tensor | float | None:
        self.is_odd = not self.is_odd
        return None


class ToggleInEvaluation(Toggle):
    def change(self, images: Tensor) -> Tensor | float | None:
        return None if self.training else super().change(images)


class ClassCounter(Base):
    calls = 0

    def change(self, images: Tensor) -> Tensor | float | None:
        type(self).calls += 1
        return None


class GlobalCounter(Base):
    def change(self, images: Tensor) -> Tensor | float | None:
        count()
        return None


def count() -> None:
    global CALLS
    CALLS += 1


class DefaultCounter(Base):
    def change(self, images: Tensor, seen: list[int] = []) -> Tensor | float | None:  # noqa: B006
        seen.append(1)
        return None


class HookedCounter(Base):
    def prepare(self) -> None:
        calls = [0]

        def hook(module: nn.Module, inputs: object, output: object) -> None:
            calls[0] += 1

        self.head.register_forward_hook(hook)

    def change(self, images: Tensor) -> Tensor | float | None:
        return None


class BackwardCounter(Base):
    def prepare(self) -> None:
        self.steps = 0
        self.head.register_full_backward_hook(self.count)

    def count(self, *arguments: object) -> None:
        self.steps += 1

    def change(self, images: Tensor) -> Tensor | float | None:
        return None


class Iterated(Base):
    def prepare(self) -> None:
        self.numbers = itertools.count()

    def change(self, images: Tensor) -> Tensor | float | None:
        next(self.numbers)
        return None


class HiddenModule(Base):
    """A network that is not registered, whose BatchNorm no checkpoint holds."""

    def prepare(self) -> None:
        self.teachers = [nn.BatchNorm2d(3)]

    def change(self, images: Tensor) -> Tensor | float | None:
        self.teachers[0](images)
        return None


class OwnGenerator(Base):
    def prepare(self) -> None:
        self.draws = torch.Generator().manual_seed(3)

    def change(self, images: Tensor) -> Tensor | float | None:
        return torch.rand(1, generator=self.draws)


class OwnNumpyGenerator(Base):
    def prepare(self) -> None:
        self.draws = np.random.default_rng(3)

    def change(self, images: Tensor) -> Tensor | float | None:
        self.draws.random()
        return None


class DrawsFromNumpy(Base):
    def change(self, images: Tensor) -> Tensor | float | None:
        return float(np.random.rand()) if self.training else None


class DrawsFromPython(Base):
    def change(self, images: Tensor) -> Tensor | float | None:
        return random.random() if self.training else None


class DrawsFromPythonWithoutEffect(Base):
    def change(self, images: Tensor) -> Tensor | float | None:
        random.random()
        return None


class ReadsClock(Base):
    def change(self, images: Tensor) -> Tensor | float | None:
        return time.perf_counter()


class ReadsEntropy(Base):
    def change(self, images: Tensor) -> Tensor | float | None:
        return uuid.uuid4().int / 2**128


class DrawsInEvaluation(Base):
    def change(self, images: Tensor) -> Tensor | float | None:
        return None if self.training else torch.rand(1)


class ChangesEnvironment(Base):
    def change(self, images: Tensor) -> Tensor | float | None:
        os.environ["CALLS_OF_NETWORK"] = str(int(os.environ.get("CALLS_OF_NETWORK", "0")) + 1)
        return None


class SwitchesMode(Base):
    def change(self, images: Tensor) -> Tensor | float | None:
        self.norm.train(not self.norm.training)
        return None


class ChoosesThreads(Base):
    def change(self, images: Tensor) -> Tensor | float | None:
        torch.set_num_threads(2)
        return None


class ChoosesKernels(Base):
    def change(self, images: Tensor) -> Tensor | float | None:
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        return None


class ChangesParameter(Base):
    def prepare(self) -> None:
        self.teacher = nn.Parameter(torch.zeros(3), requires_grad=False)

    def change(self, images: Tensor) -> Tensor | float | None:
        if self.training:
            self.teacher.data.mul_(0.9).add_(0.1)
        return None


class ReplacesBuffer(Base):
    def prepare(self) -> None:
        self.register_buffer("n", torch.zeros(()))

    def change(self, images: Tensor) -> Tensor | float | None:
        self.n: Tensor = self.n + 1
        return None


class LosesBuffer(Base):
    def prepare(self) -> None:
        self.register_buffer("mean", torch.zeros(3), persistent=False)

    def change(self, images: Tensor) -> Tensor | float | None:
        if self.training:
            mean = self.get_buffer("mean")
            mean.lerp_(images.mean((0, 2, 3)), 0.1)
        return None


class CountsLabels(Base):
    def prepare(self) -> None:
        self.register_buffer("bright", torch.zeros((), dtype=torch.int64))

    def change(self, images: Tensor) -> Tensor | float | None:
        if self.training:
            self.get_buffer("bright").add_((images > 1.0).sum())
        return None


class CountsInEvaluation(Base):
    def prepare(self) -> None:
        self.register_buffer("n", torch.zeros(()))

    def change(self, images: Tensor) -> Tensor | float | None:
        self.get_buffer("n").add_(1)
        return None


NO_CHECKPOINT = "which no checkpoint holds and which differs between processes. Make it a buffer"
REFUSED: list[tuple[type[nn.Module], str]] = [
    (Counter, f'its forward pass changes n, {NO_CHECKPOINT} with self.register_buffer("n", torch.zeros(()))'),
    (CounterInHelper, "changes book.pages[0]['n'], "),
    (GrowingList, "changes history, "),
    (PlainTensor, "changes mean, "),
    (InPlaceArray, "changes sums, "),
    (LargestSeen, "changes largest, "),
    (Toggle, "changes is_odd, "),
    (ToggleInEvaluation, "changes is_odd, "),
    (ClassCounter, "changes ClassCounter.calls, "),
    (GlobalCounter, "changes tests.models.test_trial.CALLS, "),
    (DefaultCounter, "changes a default of DefaultCounter.change[0], "),
    (HookedCounter, "changes calls of HookedCounter.prepare.hook[0], "),
    (BackwardCounter, "changes steps, "),
    (Iterated, "changes numbers, "),
    (HiddenModule, "changes teachers[0]._buffers['running_mean'], "),
    (OwnGenerator, "changes draws, "),
    (OwnNumpyGenerator, "changes draws, "),
    (DrawsFromNumpy, "draws from NumPy's global generator. Draw from torch's generator"),
    (DrawsFromPython, "draws from Python's `random`. Draw from torch's generator"),
    (DrawsFromPythonWithoutEffect, "draws from Python's `random`. Draw from torch's generator"),
    (ReadsClock, "gives other bits each time for the same images and seed"),
    (ReadsEntropy, "gives other bits each time for the same images and seed"),
    (DrawsInEvaluation, "the output in evaluation gives other bits each time"),
    (ChangesEnvironment, "changes the environment variable CALLS_OF_NETWORK"),
    (SwitchesMode, "switches norm between training and evaluation. Leave that to the run"),
    (ChoosesThreads, "changes torch.get_num_threads(), on which its results depend. Leave it as it is"),
    (ChoosesKernels, "changes torch.backends.cudnn.benchmark, on which its results depend"),
    (ChangesParameter, "changes the parameter teacher. Make it a buffer"),
    (ReplacesBuffer, "gives the buffer n a new tensor. Change it in place, as self.n.copy_(…) does"),
    (LosesBuffer, "changes the buffer mean, which no checkpoint holds. Register it with persistent=True"),
    (CountsLabels, "its buffer bright holds whole numbers that depend on the images"),
    (CountsInEvaluation, "changes the buffer n in evaluation, where each process has other images"),
]


@pytest.mark.parametrize(("network", "told"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_refused(network: Callable[[], nn.Module], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLS_OF_NETWORK", "0")
    torch.manual_seed(0)
    assert told in fault_of(network())


class Cached(Base):
    """Computes a table once."""

    def prepare(self) -> None:
        self.table: Tensor | None = None
        self.sizes: dict[tuple[int, ...], int] = {}

    def change(self, images: Tensor) -> Tensor | float | None:
        self.sizes.setdefault(tuple(images.shape), len(self.sizes))
        if self.table is None:
            self.table = torch.arange(3.0)
        return self.table


class KeepsFeatures(Base):
    """Keeps what it computed last, to be looked at."""

    features: Tensor
    seen_in_evaluation: float = 0.0

    def change(self, images: Tensor) -> Tensor | float | None:
        self.features = images.mean((2, 3))
        if self.training:
            self.last_loss = float(self.features.sum())
        else:
            self.seen_in_evaluation = float(self.features.sum())
        return None


class WritesIntoInput(Base):
    def change(self, images: Tensor) -> Tensor | float | None:
        images.mul_(2)
        return None


class Masked(Base):
    def prepare(self) -> None:
        self.register_buffer("mask", torch.ones(3, dtype=torch.bool))
        self.register_buffer("phase", torch.ones(3, dtype=torch.complex64), persistent=False)

    def change(self, images: Tensor) -> Tensor | float | None:
        return self.get_buffer("mask") * self.get_buffer("phase").real


class FreezesNorm(Base):
    """Keeps a layer in evaluation mode, as transfer learning does."""

    def change(self, images: Tensor) -> Tensor | float | None:
        self.norm.eval()
        return None


class Buffered(Base):
    """Counts and averages in buffers, in place and in training."""

    def prepare(self) -> None:
        self.register_buffer("n", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(3))

    def change(self, images: Tensor) -> Tensor | float | None:
        if self.training:
            self.get_buffer("n").add_(1)
            self.get_buffer("mean").lerp_(images.mean((0, 2, 3)), 0.1)
        return self.get_buffer("mean").clone()


class Lazy(nn.Module):
    """Lazy layers that one pass in the constructor has given their sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(3))
        self.layers(torch.zeros(2, 3, SIDE, SIDE))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rows = kind(3 * SIDE, 8, num_layers=2, batch_first=True, dropout=0.3)
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        outputs, _ = self.rows(images.permute(0, 2, 1, 3).flatten(2))
        logits: Tensor = self.head(outputs[:, -1])
        return logits


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(3 * SIDE, 4, 32, dropout=0.2, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(3 * SIDE, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(images.permute(0, 2, 1, 3).flatten(2)).mean(1))
        return logits


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def stacked(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), *layers, nn.Flatten(), nn.Linear(4 * (SIDE - 2) ** 2, 3))


def parametrized() -> nn.Module:
    model = stacked()
    parametrize.register_parametrization(model[2], "weight", Doubled())
    return model


def frozen() -> nn.Module:
    model = stacked(nn.BatchNorm2d(4), nn.Dropout(0.5))
    freeze_backbone(model)
    return model


ACCEPTED: dict[str, Callable[[], nn.Module]] = {
    "cache": Cached,
    "last features": KeepsFeatures,
    "norm kept in eval mode": FreezesNorm,
    "input written to": WritesIntoInput,
    "buffers of other kinds": Masked,
    "state in buffers": Buffered,
    "lazy layers": Lazy,
    "RNN": lambda: Recurrent(nn.RNN),
    "GRU": lambda: Recurrent(nn.GRU),
    "LSTM": lambda: Recurrent(nn.LSTM),
    "attention": Attention,
    "dropout": lambda: stacked(nn.Dropout(0.5), nn.Dropout2d(0.2), nn.AlphaDropout(0.1)),
    "drawing layers": lambda: stacked(nn.RReLU(), torchvision.ops.StochasticDepth(0.5, "row")),
    "BatchNorm": lambda: stacked(nn.BatchNorm2d(4)),
    "BatchNorm without statistics": lambda: stacked(nn.BatchNorm2d(4, track_running_stats=False)),
    "BatchNorm by count": lambda: stacked(nn.BatchNorm2d(4, momentum=None)),
    "other norms": lambda: stacked(nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, track_running_stats=True)),
    "old spectral norm": lambda: stacked(spectral_norm(nn.Conv2d(4, 4, 1))),
    "spectral norm": lambda: stacked(parametrizations.spectral_norm(nn.Conv2d(4, 4, 1))),
    "weight norm": lambda: stacked(parametrizations.weight_norm(nn.Conv2d(4, 4, 1))),
    "orthogonal": lambda: stacked(parametrizations.orthogonal(nn.Conv2d(4, 4, 1))),
    "parametrization": parametrized,
    "frozen backbone": frozen,
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    torch.manual_seed(0)
    assert fault_of(ACCEPTED[name]()) == ""


def test_weight_norm_of_old_is_accepted() -> None:
    with pytest.warns(FutureWarning):
        model = stacked(weight_norm(nn.Conv2d(4, 4, 1)))
    assert fault_of(model) == ""


@pytest.mark.parametrize("name", BUILDERS)
def test_networks_of_the_project_are_accepted(name: str) -> None:
    torch.manual_seed(0)
    assert fault_of(create_model(ModelConfig(name=name), num_classes=3, image_size=32), side=32) == ""


TORCHVISION = (
    *("resnet18", "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5"),
    *("regnet_y_400mf", "googlenet"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("efficientnet_b0", "densenet121", "convnext_tiny")),
)


@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_of_torchvision_are_accepted(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(ModelConfig(name=f"torchvision:{name}"), num_classes=3, image_size=32)
    assert fault_of(model, side=32, num_images=2) == ""
