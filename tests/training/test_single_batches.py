"""Batches that are read beside the loaders."""

from __future__ import annotations

from pathlib import Path

import torch

from signs_dist.training.single_batches import SingleBatches
from tests.training.parts import make_stepper


def test_a_micro_batch_is_that_of_the_loader_that_has_the_step(tmp_path: Path) -> None:
    turned = ("augment.backend=torchvision", "augment.transforms=[{RandomRotation: {degrees: 25}}]")
    stepper, _ = make_stepper(tmp_path, "train.micro_batch=2", *turned)
    single = SingleBatches.of(stepper.prepared, stepper.prepared.sources["train"], stepper.train_loader)
    for step, batch in enumerate(stepper.train_loader.epoch(1)):
        for number in range(4):
            found, part = single.micro_batch(1, step, number), batch.part(2 * number, 2 * number + 2)
            assert (found.epoch, found.step) == (1, step)
            assert torch.equal(found.samples, part.samples)
            assert torch.equal(found.labels, part.labels)
            assert torch.equal(found.images, part.images)
