"""Weights from a file into a model, for fine-tuning."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.models.trainable import head_name

logger = logging.getLogger(__name__)

WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""What DDP or DataParallel and torch.compile put before names."""


def read_file(path: str) -> dict[str, Tensor]:
    """The state dict in `path`, on the CPU: `model.pt` of a run, a plain state dict, or one under the key
    `state_dict` or `model`. Only tensors and plain values are read: no code in the file runs.

    Raises:
        UserError: the file is missing or is not such a file.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(
            f"model.weights={path}: there is no such file. Names such as DEFAULT are for torchvision's networks."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"model.weights={path} cannot be read as a PyTorch state dict: {type(error).__name__}: {reason}"
        ) from error
    if isinstance(content, dict):
        for key in ("state_dict", "model"):
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    if not _is_state_dict(content):
        raise UserError(f"model.weights={path} holds no state dict (names and tensors). Give a model.pt of a run.")
    return {_plain(name): tensor for name, tensor in content.items()}


def load(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load `state` into `model`. A head for another number of classes is left fresh, and a log line says so.

    Raises:
        UserError: names or shapes differ elsewhere. `model` is unchanged then.
    """
    own = model.state_dict()
    head = head_name(model)
    head_names = [name for name in own if name.startswith(f"{head}.")]
    kept_head = [name for name in head_names if name in state and state[name].shape != own[name].shape]
    if kept_head:
        other_classes = state[kept_head[-1]].shape[0]
        state = {name: tensor for name, tensor in state.items() if name not in head_names}
    _refuse_differences(own, state, head_names if kept_head else [], source)
    model.load_state_dict(state, strict=False)
    if kept_head:
        logger.warning(
            "%s has %d classes, the data %d: the head (%s) starts afresh.",
            source, other_classes, own[kept_head[-1]].shape[0], head,
        )  # fmt: skip


def _refuse_differences(own: dict[str, Tensor], state: dict[str, Tensor], ignored: list[str], source: str) -> None:
    # BatchNorm's counter is absent from files older than torch 0.4.1, and nothing here reads it.
    missing = [
        name for name in own if name not in state and name not in ignored and not name.endswith("num_batches_tracked")
    ]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} is {list(state[name].shape)}, the model's {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    differences = [
        f"{title} {', '.join(found[:3])}{f' and {len(found) - 3} more' if len(found) > 3 else ''}"
        for title, found in (("missing:", missing), ("unexpected:", unexpected), ("other shapes:", shapes))
        if found
    ]
    if differences:
        raise UserError(
            f"model.weights={source} is a checkpoint of another model. {'; '.join(differences)}. "
            f"Choose model.name and model.args that fit the file, or another file."
        )


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def _plain(name: str) -> str:
    while name.startswith(WRAPPER_PREFIXES):
        for prefix in WRAPPER_PREFIXES:
            name = name.removeprefix(prefix)
    return name
