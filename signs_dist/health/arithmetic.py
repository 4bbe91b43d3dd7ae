"""What each rank computes from the same numbers: the same bits, as exact mode needs, or not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from signs_dist.config.settings import Config
from signs_dist.environment.slurm_job import node_name
from signs_dist.health.finding import Finding, Place, listed

CHECK = "arithmetic"
NUM_CLASSES = 6
SUBJECT = "doctor 1"
"""What is computed, and the version of it."""


def measure(config: Config, device: str, host: str) -> dict[str, Any]:
    """Compute a training pass of the config's network over fixed images, as exact mode does.

    Returns:
        `RankArithmetic` as plain values; its digest is of losses, logits and gradients.
    """
    import torch

    from signs_dist.distributed.arithmetic import Fingerprint, RankArithmetic, name_arithmetic
    from signs_dist.distributed.exactness import EXACT_NUM_THREADS, exact_arithmetic
    from signs_dist.learning.losses import build_loss
    from signs_dist.training.arithmetic_probe import fixed_images
    from signs_dist.training.prepare import build_model, layout_of

    place = torch.device(device)
    with exact_arithmetic(), torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        model = build_model(config, NUM_CLASSES, place)
        layout = layout_of(config.train.channels_last)
        images = fixed_images(config.data.image_size, place).contiguous(memory_format=layout)
        labels = torch.arange(len(images), device=place) % NUM_CLASSES
        torch.manual_seed(0)  # for dropout
        logits = model(images)
        losses = build_loss(config.loss, NUM_CLASSES)(logits, labels)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        digest = hashlib.sha256()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        for tensor in (logits, losses, *gradients):
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        names = name_arithmetic(place, EXACT_NUM_THREADS)
    fingerprint = Fingerprint(names, SUBJECT, digest.hexdigest())
    return RankArithmetic(fingerprint, node_name(os.environ, host), device).as_plain()


def judge(readings: Mapping[int, Mapping[str, Any]], places: Mapping[int, Place], *, is_exact: bool) -> Finding:
    """Whether all ranks compute the same bits; which do not, and what differs there.

    Args:
        readings: of each rank.
        places: of each rank.
        is_exact: whether the config asks for exact mode, which needs it.
    """
    from signs_dist.distributed.arithmetic import RankArithmetic, find_odd_ranks

    numbers = sorted(readings)
    ranks = [RankArithmetic.from_plain(readings[number]) for number in numbers]
    odd = find_odd_ranks([each.fingerprint.digest for each in ranks])
    first = ranks[0].fingerprint
    kind = first.names.get("GPU") or first.names.get("CPU", "this processor")
    if odd:
        right = next(each for place, each in enumerate(ranks) if place not in odd)
        told = listed(
            f"{places[numbers[place]]}: "
            + (
                "; ".join(right.fingerprint.differences(ranks[place].fingerprint))
                or "no version or instruction differs"
            )
            for place in odd
        )
        return Finding(
            CHECK,
            "fail" if is_exact else "warn",
            f"other bits than the others from the same numbers on {told}",
            "the same bits on every rank, which exact=true needs; fast mode does without",
            "one kind of machine for all ranks (on SLURM --constraint), with the same software",
        )
    same = f"the same bits on all {len(ranks)} ranks" if len(ranks) > 1 else "one rank, compared with no other"
    return Finding(CHECK, "ok", f"{same} ({kind}), fingerprint {first.digest[:12]}")
