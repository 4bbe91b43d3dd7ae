"""The fingerprint of what a run's network computes here: one fixed micro-batch, at the initial weights.

The micro-batch is the same for every run of a network and image size: no photo, no augmentation, no number of processes
and no size of the run's own micro-batches can change it. It costs one training pass over four images and one evaluation
pass over two of them, which leave weights, buffers and random generators as they were.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os

import torch
from torch import Tensor

from signs_dist.distributed.arithmetic import MOST_NAMED, VERSION, Fingerprint, RankArithmetic, name_arithmetic
from signs_dist.environment.slurm_job import node_name
from signs_dist.models.trial import Trial, find_digest
from signs_dist.training.prepare import Prepared
from signs_dist.training.process import Process

NUM_IMAGES = 4
"""Enough for a BatchNorm over features of one pixel."""


def probe_arithmetic(trial: Trial, prepared: Prepared) -> Fingerprint:
    """The fingerprint of this process, with the digest of the fixed micro-batch.

    A network may take only so many images as its micro-batches have, and a GPU may have no room for more than those:
    where the passes fail, there is no digest.

    Args:
        trial: of the run's network at its initial weights.
        prepared: the parts of the run.
    """
    config, labels = prepared.config, trial.labels
    images = fixed_images(config.data.image_size, trial.images.device)
    layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
    fixed = dataclasses.replace(
        trial,
        images=images.contiguous(memory_format=layout),
        labels=fixed_labels(len(prepared.data.classes), labels),
    )
    try:
        digests = dataclasses.astuple(find_digest(fixed))
    except Exception:  # noqa: BLE001 - of the network, which has just computed its own micro-batch without an error
        return name_only(prepared, trial.images.device)
    return Fingerprint(
        name_arithmetic(trial.images.device, prepared.way.num_threads),
        subject=find_subject(prepared, are_shares=labels.is_floating_point()),
        digest=hashlib.sha256("\n".join(digests).encode()).hexdigest(),
    )


def name_only(prepared: Prepared, device: torch.device) -> Fingerprint:
    """The fingerprint of this process without a digest, as in fast mode."""
    return Fingerprint(name_arithmetic(device, prepared.way.num_threads))


def tell_of_ranks(own: Fingerprint, process: Process) -> None:
    """In fast mode: tell that processes compute on other machines or with other software. All processes call it."""
    where = RankArithmetic(own, node_name(os.environ, process.context.host), process.devices)
    gathered = process.strategy.gather_values(where.as_plain(), "compare the arithmetic")
    ranks = [RankArithmetic.from_plain(plain) for plain in gathered]
    parts = [
        f"rank {number} on {each.host} ({each.device}): {'; '.join(changed)}"
        for number, each in enumerate(ranks)
        if (changed := ranks[0].fingerprint.differences(each.fingerprint))
    ]
    if parts:
        more = f". And {len(parts) - MOST_NAMED} more" if len(parts) > MOST_NAMED else ""
        told = ". ".join(parts[:MOST_NAMED])
        process.screen.result(
            f"these processes compute otherwise than rank 0: {told}{more}. exact=true refuses other bits"
        )


def fixed_images(side: int, device: torch.device) -> Tensor:
    """Images float32 [4, 3, side, side] from -1 to 1, by whole numbers alone: every machine makes the same bits."""
    numbers = torch.arange(NUM_IMAGES * 3 * side * side, dtype=torch.int64)
    mixed = (numbers * 2_654_435_761) % 2**32 // 2**16  # Knuth's multiplicative hash
    return (mixed.to(torch.float32) / 2**15 - 1).reshape(NUM_IMAGES, 3, side, side).to(device)


def fixed_labels(num_classes: int, like: Tensor) -> Tensor:
    """Targets of the fixed images in the form of `like`: labels int64 [4], or shares of the classes float32 [4, C]."""
    labels = torch.arange(NUM_IMAGES, device=like.device) % num_classes
    if not like.is_floating_point():
        return labels
    return torch.nn.functional.one_hot(labels, num_classes).to(like.dtype)


def find_subject(prepared: Prepared, *, are_shares: bool) -> str:
    """SHA-256 (hex) of the settings that decide what is computed, whatever computes it."""
    config = prepared.config
    settings = {
        "version": VERSION,
        "model": config.model.model_dump(mode="json", exclude={"gradient_checkpointing"}),
        "loss": config.loss.model_dump(mode="json"),
        "class_weights": prepared.class_weights,
        "seed": config.seed,
        "image_size": config.data.image_size,
        "num_classes": len(prepared.data.classes),
        "evaluation": [config.evaluate.flip_average, config.evaluate.ten_crop_side],
        "precision": prepared.precision.name,
        "channels_last": config.train.channels_last,
        "are_shares": are_shares,
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
