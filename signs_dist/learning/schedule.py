"""The learning rate over a run: a pure function of the number of images that the run has seen."""

from __future__ import annotations

import math

from signs_dist.config.settings import ScheduleConfig


def learning_rate_factor(
    config: ScheduleConfig, *, images_seen: int, images_total: int, images_per_epoch: int
) -> float:
    """Factor on `optim.lr` for the step that starts after `images_seen` images.

    It does not depend on the batch, the number of processes, or where the run was resumed.

    Args:
        config: which curve, and its shape.
        images_seen: images the run has trained on before this step; 0 at the first. At most `images_total` count.
        images_total: images the run will have trained on at its end.
        images_per_epoch: images trained on in one epoch; the unit of `warmup_epochs` and `step_epochs`.
    """
    seen = min(max(images_seen, 0), images_total)
    if config.name == "one_cycle":
        return _one_cycle(config, seen / images_total)
    warmup = min(config.warmup_epochs * images_per_epoch, images_total)
    if seen < warmup:
        return seen / warmup
    if config.name == "cosine":
        rest = images_total - warmup
        return _between(1.0, config.final_factor, (seen - warmup) / rest if rest else 1.0)
    if config.name == "step":
        # The small term corrects rounding: 110 images are 1.1 epochs of 100, but 110 / (1.1 * 100) is just below 1.
        num_drops = math.floor(seen / (config.step_epochs * images_per_epoch) + 1e-9)
        return float(config.step_factor**num_drops)
    return 1.0


def _one_cycle(config: ScheduleConfig, share: float) -> float:
    """Half a cosine up to 1 at `peak_at`, half a cosine down to `final_factor` (Smith and Topin, arXiv:1708.07120)."""
    if share < config.peak_at:
        return _between(config.start_factor, 1.0, share / config.peak_at)
    return _between(1.0, config.final_factor, (share - config.peak_at) / (1 - config.peak_at))


def _between(first: float, last: float, share: float) -> float:
    """Half a cosine wave from `first` (share 0) to `last` (share 1)."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
