"""The content of a checkpoint as a small run saves it, made by hand."""

from __future__ import annotations

from typing import Any

import torch

from signs_dist.config.reading import load_config

NUM_STEPS = 4
BATCH = 8
FINGERPRINT = "f" * 64
SETTINGS = ("train.epochs=99", f"train.global_batch={BATCH}", "train.micro_batch=4", "data.image_size=16")


def make_content(epoch: int, step: int = 0, *, num_values: int = 500, **changes: Any) -> dict[str, Any]:
    """What a run of one weight `w`, of SGD with momentum, saves; its values are the number of finished epochs."""
    config = load_config(None, SETTINGS)
    weight = torch.full((num_values,), float(epoch))
    group = {"lr": 0.1, "momentum": 0.9, "dampening": 0, "weight_decay": 0.0, "nesterov": True, "params": [0]}
    sums = {
        "loss": torch.tensor(2**24),
        "confusion": torch.tensor([step * BATCH, 0, 0, 0]),
        "bad": torch.tensor(0),
    }
    content: dict[str, Any] = {
        "format": 2,
        "model": {"w": weight},
        "ema": None,
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(num_values)}}, "param_groups": [group]},
        "scaler": {},
        "cursor": {"epoch": epoch, "step": step},
        "images": (epoch * NUM_STEPS + step) * BATCH,
        "learning_rate": 0.05,
        "sums": sums if step else None,
        "best": {"epoch": epoch, "accuracy": 0.75, "loss": 0.5} if epoch else None,
        "best_macro_f1": 0.7 if epoch else None,
        "config": config.model_dump(mode="json"),
        "global_batch": BATCH,
        "micro_batch": 4,
        "precision": "float32",
        "classes": ["a", "b"],
        "train_seconds": 1.5,
        "saved_at": 1.7e9,
        "run": {"data": {"fingerprints": {"train": FINGERPRINT}}, "versions": {"signs_dist": "0.9"}, "attempts": 1},
    }
    return {**content, **changes}
