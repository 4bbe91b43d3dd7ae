"""Weights and checkpoints on disk: plain tensors under plain names, written whole or not at all."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.files import written_aside
from signs_dist.models.weights import differences

Weights = Mapping[str, Tensor]


def save(path: Path, value: Mapping[str, Any]) -> None:
    """Write tensors and plain values to `path`, so that `torch.load(path, weights_only=True)` reads them back."""
    # By way of memory: torch's own writer reports a full disk as a RuntimeError about positions in the file.
    buffer = io.BytesIO()
    torch.save(dict(value), buffer)
    with written_aside(path) as aside:
        aside.write_bytes(buffer.getbuffer())


def put_weights(model: nn.Module, weights: Weights, source: Path) -> None:
    """Copy weights into a model; every name and shape must fit.

    Raises:
        UserError: they are those of another model.
    """
    if misfit := differences(model.state_dict(), weights):
        raise UserError(f"{source} is of another model: {misfit}. Use the config that it was trained with.")
    model.load_state_dict(dict(weights), strict=False)  # all but counters is there


def plain_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's weights on the CPU, contiguous, under plain names."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in model.state_dict().items()}


def weights_sha256(weights: Weights) -> str:
    """SHA-256 (hex) over the names, dtypes, shapes and bytes of all tensors, in the order of their names."""
    hasher = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        hasher.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        hasher.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return hasher.hexdigest()
