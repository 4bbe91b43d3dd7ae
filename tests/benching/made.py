"""Figures as a measurement gives them."""

from __future__ import annotations

import dataclasses
from typing import Any

from signs_dist.benching.figures import Figures, Saving, Setup, Trace
from signs_dist.training.profiling import Operation
from signs_dist.tuning.rounds import Timing
from signs_dist.tuning.variants import Variant

CHOSEN = Variant(2, channels_last=True, precision="float32")


def timing(seconds: float) -> Timing:
    return Timing(seconds, 0.99 * seconds, 1.01 * seconds, 10, 5)


def make_figures(**changes: Any) -> Figures:
    """Figures of a run with nothing to improve: 32 images in 0.1 s, 0.104 s with data."""
    values: dict[str, Any] = {
        "device": "cpu",
        "num_cores": 2,
        "world_size": 1,
        "is_exact": False,
        "batch": 32,
        "wanted_batch": 32,
        "chosen": CHOSEN,
        "automatic": ["train.num_threads", "train.precision"],
        "variants": {CHOSEN: timing(0.1), Variant(1, channels_last=True, precision="float32"): timing(0.18)},
        "bare": timing(0.1),
        "data": timing(0.104),
        "wait_share": 0.01,
        "parts": {"forward and loss": 0.03, "backward": 0.06, "optimizer": 0.01, "images, augmented": 0.002},
        "saving": Saving(0.02, 27),
        "storage": "packed",
        "device_bytes": None,
        "is_cached": False,
        "has_sizes": False,
        "num_workers": 0,
        "step": "",
        "loading": {0: timing(0.001), 1: timing(0.002)},
        "sums": None,
        "trace": Trace([Operation("aten::addmm", 0.1, 6)], 3, 0.4),
        "core_wait_share": 0.0,
    }
    values |= changes
    setup = Setup(**{field.name: values.pop(field.name) for field in dataclasses.fields(Setup)})
    return Figures(setup=setup, **values)
