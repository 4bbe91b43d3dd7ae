"""The files that the processes of a recorded run write, and the record of the whole run that is read from them.

rank0.json …    the arithmetic, and each pass: its step, samples, images and loss
weights.pt      the final weights
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Pass:
    """One forward and backward pass of one process.

    Attributes:
        epoch, step: of the run; both count from 0.
        micro_batch: the first of its micro-batches, from 0.
        samples: the numbers of its images.
        images: a digest of each image as the model saw it.
        loss: its share of the step's loss.
    """

    epoch: int
    step: int
    micro_batch: int
    samples: list[int]
    images: list[str]
    loss: float


@dataclasses.dataclass(frozen=True)
class Record:
    """What a run did on one number of processes.

    Attributes:
        world_size: number of processes.
        samples: of each step, the sample numbers in their order.
        images: of each step, a digest of each image as the model saw it.
        losses: of each step.
        weights_sha256: of the final weights.
        weights: by name.
        precision: arithmetic of the forward pass.
    """

    world_size: int
    samples: list[list[int]]
    images: list[list[str]]
    losses: list[float]
    weights_sha256: str
    weights: dict[str, Tensor]
    precision: str


def write_passes(folder: Path, rank: int, passes: Sequence[Pass], precision: str) -> None:
    """Write the passes of one process."""
    content = {"precision": precision, "passes": [dataclasses.asdict(one) for one in passes]}
    # json keeps each float's bits, and writes NaN and infinity, which write_json refuses.
    _passes_file(folder, rank).write_text(json.dumps(content), encoding="utf-8")


def write_weights(folder: Path, model: nn.Module) -> None:
    """Write the final weights."""
    from signs_dist.checkpointing import tensors

    tensors.save(folder / "weights.pt", tensors.plain_weights(model))


def read_record(folder: Path, world_size: int) -> Record:
    """The record of a run, from the files of all its processes."""
    from signs_dist.checkpointing.tensors import weights_sha256
    from signs_dist.models.weights import read_weights

    contents = [json.loads(_passes_file(folder, rank).read_text(encoding="utf-8")) for rank in range(world_size)]
    passes = [Pass(**entry) for content in contents for entry in content["passes"]]
    passes.sort(key=lambda one: (one.epoch, one.step, one.micro_batch))
    steps: dict[tuple[int, int], list[Pass]] = {}
    for one in passes:
        steps.setdefault((one.epoch, one.step), []).append(one)
    weights = dict(read_weights(folder / "weights.pt"))
    return Record(
        world_size,
        samples=[[sample for one in step for sample in one.samples] for step in steps.values()],
        images=[[image for one in step for image in one.images] for step in steps.values()],
        losses=[math.fsum(one.loss for one in step) for step in steps.values()],
        weights_sha256=weights_sha256(weights),
        weights=weights,
        precision=contents[0]["precision"],
    )


def _passes_file(folder: Path, rank: int) -> Path:
    return folder / f"rank{rank}.json"
