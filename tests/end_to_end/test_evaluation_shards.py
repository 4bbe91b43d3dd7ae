"""An evaluation is the same on any number of processes, bit for bit: each size, batch and number of shards is tried."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from signs_dist.data.plan import Shard
from signs_dist.data.samplers import EvaluationSampler
from signs_dist.learning.metrics import RunningSums, Score, to_host

SIZES, COUNTS, BATCHES = range(1, 41), range(1, 5), range(1, 9)
NUM_CLASSES = 3


class BatchSensitive(nn.Module):
    """A network whose output for an image depends a little on those beside it, as rounding does, but plainly."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 8)
        self.outer = nn.Linear(8, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.inner(images)
        logits: Tensor = self.outer(torch.relu(features - features.mean(dim=0)))
        return logits


def make_images() -> tuple[Tensor, Tensor, nn.Module]:
    torch.manual_seed(0)
    return torch.randn(max(SIZES), 4), torch.randint(0, NUM_CLASSES, (max(SIZES),)), BatchSensitive()


@torch.inference_mode()
def sums_of(model: nn.Module, images: Tensor, labels: Tensor, batches: Iterator[Tensor]) -> dict[str, Tensor]:
    sums = RunningSums(NUM_CLASSES, torch.device("cpu"))
    for samples in batches:
        logits = model(images[samples])
        sums.add(nn.functional.cross_entropy(logits, labels[samples], reduction="none"), logits, labels[samples])
    return sums.tensors()


def whole_batches(size: int, batch: int, shard: Shard) -> Iterator[Tensor]:
    """Ours."""
    return (torch.from_numpy(key.samples) for key in EvaluationSampler(size, batch, shard))


def cut_by_samples(size: int, batch: int, shard: Shard) -> Iterator[Tensor]:
    """The usual way: each shard cuts its own samples into batches."""
    return iter(torch.arange(*shard.bounds(size)).split(batch))


def test_every_evaluation_equals_that_of_one_process() -> None:
    images, labels, model = make_images()
    for size, batch in itertools.product(SIZES, BATCHES):
        alone = sums_of(model, images, labels, whole_batches(size, batch, Shard()))
        assert Score.from_sums(to_host(alone)).num_images == size
        for count in COUNTS:
            parts = [
                sums_of(model, images, labels, whole_batches(size, batch, Shard(index, count)))
                for index in range(count)
            ]
            for name, expected in alone.items():
                total = torch.stack([part[name] for part in parts]).sum(dim=0)
                assert torch.equal(total, expected), (name, size, batch, count)


def test_batches_that_depend_on_the_number_of_shards_are_seen() -> None:
    images, labels, model = make_images()
    alone = sums_of(model, images, labels, cut_by_samples(40, 8, Shard()))
    parts = [sums_of(model, images, labels, cut_by_samples(40, 8, Shard(index, 3))) for index in range(3)]
    assert sum(int(part["loss"]) for part in parts) != int(alone["loss"])
    assert sum(int(part["confusion"].sum()) for part in parts) == 40
