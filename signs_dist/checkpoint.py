"""Weights and checkpoints on disk: plain tensors under plain names, written whole or not at all."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.files import written_aside

Weights = Mapping[str, Tensor]
BROKEN = (
    *(OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError),
    *(LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, MemoryError, struct.error),
)
"""What torch.load raises on files that are not its own: its unpickler trusts the bytes to be well-formed."""


def save(path: Path, value: Mapping[str, Any]) -> None:
    """Write tensors and plain values to `path`, so that `torch.load(path, weights_only=True)` reads them back."""
    # By way of memory: torch's own writer reports a full disk as a RuntimeError about positions in the file.
    buffer = io.BytesIO()
    torch.save(dict(value), buffer)
    with written_aside(path) as aside:
        aside.write_bytes(buffer.getbuffer())


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote, to the CPU. Nothing in the file is run.

    Raises:
        UserError: it is missing, broken, or not a file of tensors and plain values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pickles of another protocol: they are read, or refused below
            value = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except BROKEN as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} cannot be read as a checkpoint: {reason}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}, not a checkpoint.")
    return value


def load_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a model.pt, or of a checkpoint in checkpoints/ (its average, where it has one)."""
    value = load(path)
    average = value.get("ema")
    weights = average.get("weights") if isinstance(average, dict) else value.get("model", value)
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise UserError(f"{path} holds no weights: a model.pt or a file of checkpoints/ is wanted.")
    return dict(weights)


def put_weights(model: nn.Module, weights: Weights, source: Path) -> None:
    """Copy weights into a model; every name and shape must fit.

    Raises:
        UserError: they are those of another model.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in weights]
    unexpected = [name for name in weights if name not in own]
    misfits = [
        f"{name} is {list(weights[name].shape)}, not {list(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if missing or unexpected or misfits:
        parts = [
            *([f"{len(missing)} missing, such as {missing[0]}"] if missing else []),
            *([f"{len(unexpected)} unknown, such as {unexpected[0]}"] if unexpected else []),
            *misfits[:1],
        ]
        raise UserError(f"{source} is of another model: {'; '.join(parts)}. Use the config that it was trained with.")
    model.load_state_dict(dict(weights))


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
