"""Read weights from a file, and load them into a model."""

from __future__ import annotations

import logging
import pickle
import struct
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.files import find_other_kind
from signs_dist.models.archive_members import MAX_PICKLE_BYTES, find_bad_member
from signs_dist.models.other_files import describe_other_file
from signs_dist.models.trainable import head_name

logger = logging.getLogger(__name__)

PARALLEL_PREFIX = "module."
"""DDP and DataParallel put it before names."""
COMPILED_PREFIX = "_orig_mod."
"""torch.compile puts it before names."""

_BROKEN_FILE_ERRORS = (
    *(OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError),
    *(LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, MemoryError, struct.error),
)
"""What torch.load raises on a file that torch.save did not write."""


def read_plain(path: Path, max_pickle_bytes: int | None = None) -> dict[str, Any]:
    """Read a file of tensors and plain values, onto the CPU. No code in the file is run.

    Args:
        path: the file.
        max_pickle_bytes: how large the description of its values may be; None: as large as it is.

    Raises:
        UserError: it is missing, broken, too large, or not a dictionary. The message begins with the path.
    """
    if kind := find_other_kind(path):
        raise UserError(f"{path} cannot be read as a checkpoint: it is {kind}, not a file.")
    if problem := _find_bad_member(path, max_pickle_bytes):
        raise UserError(f"{path} cannot be read as a checkpoint: {problem}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of another protocol, which are read or refused below
            value = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except _BROKEN_FILE_ERRORS as error:
        raise UserError(f"{path} cannot be read as a checkpoint: {describe_other_file(path, error)}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}, not a checkpoint.")
    return value


def _find_bad_member(path: Path, max_pickle_bytes: int | None) -> str:
    try:
        return find_bad_member(path, max_pickle_bytes)
    except OSError:
        return ""  # the file cannot be read, which `read_plain` tells


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights in a file, under plain names.

    The file is a run's model.pt, a file of checkpoints/ (its average is read if it has one), any other state dict, or a
    dictionary with one under the key `state_dict` or `model`.

    Raises:
        UserError: as `read_plain`; also if the file has no weights, two tensors for one plain name, or a tensor that
            holds no values in plain memory (sparse, quantized, on the meta device).
    """
    return weights_in(read_plain(path, MAX_PICKLE_BYTES), path)


def weights_in(value: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights in the content of the file `path`, as `read_weights`."""
    average = value.get("ema")
    inner = value.get("model", value.get("state_dict", value))
    weights: Any = average.get("weights") if isinstance(average, dict) else inner
    if not _is_state_dict(weights):
        raise UserError(f"{path} holds no weights. Give a model.pt or a file of checkpoints/.")
    if problem := find_odd_tensor(weights):
        raise UserError(f"{path} cannot be loaded: {problem}. Save the state dict of a plain model.")
    if clash := find_name_clash(weights):
        raise UserError(f"{path} holds {clash}: it is not known which one is meant. Delete one of them from the file.")
    return {plain_name(name): tensor for name, tensor in weights.items()}


def find_odd_tensor(weights: Mapping[str, Tensor]) -> str:
    """Text on the first tensor whose values are not in plain memory on the CPU; "" without one."""
    for name, tensor in weights.items():
        if tensor.device.type == "meta":
            return f"{name} is on the meta device, without values"
        if tensor.is_quantized:
            return f"{name} is quantized"
        if tensor.is_nested:
            return f"{name} is nested"
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            return f"{name} is not a dense tensor ({str(tensor.layout).removeprefix('torch.')})"
    return ""


def find_name_clash(names: Iterable[str]) -> str:
    """Two names that are one name without the prefixes of wrappers, as `both x and module.x`; "" without such names."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(plain_name(name), name)
        if other != name:
            return f"both {other} and {name}"
    return ""


def named_weights(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a model, wrapped or not, under plain names. Not copies."""
    return {plain_name(name): tensor for name, tensor in model.state_dict().items()}


def read_file(path: str) -> dict[str, Tensor]:
    """`read_weights` for `model.weights`; errors name this setting."""
    try:
        return read_weights(Path(path))
    except UserError as error:
        raise UserError(f"model.weights={error}") from error


def load(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load `state` into `model`. A head for another number of classes is not loaded, and a warning is logged.

    Raises:
        UserError: other names or shapes differ. `model` is then unchanged.
    """
    own = model.state_dict()
    head = head_name(model)
    head_names = [name for name in own if name.startswith(f"{head}.")]
    kept_head = [name for name in head_names if name in state and _is_for_other_classes(state[name], own[name])]
    if kept_head:
        other_classes = state[kept_head[-1]].shape[0]
        state = {name: tensor for name, tensor in state.items() if name not in head_names}
    if misfit := differences(own, state, head_names if kept_head else []):
        raise UserError(
            f"model.weights={source} is a checkpoint of another model. {misfit}. "
            f"Choose model.name and model.args that fit the file, or another file."
        )
    model.load_state_dict(state, strict=False)
    if kept_head:
        logger.warning(
            "%s has %d classes, the data has %d: the head (%s) is not loaded and trains from new weights.",
            source, other_classes, own[kept_head[-1]].shape[0], head,
        )  # fmt: skip


def differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor], ignored: Sequence[str] = ()) -> str:
    """The names, shapes and types in which `given` differs from a model's `own` weights; empty if it fits.

    A type differs if values would change their meaning: whole numbers for weights, complex for real ones. Floating
    types are converted.
    """
    # Files older than torch 0.4.1 lack BatchNorm's counter, which is not used here.
    missing = [
        name for name in own if name not in given and name not in ignored and not name.endswith("num_batches_tracked")
    ]
    unexpected = [name for name in given if name not in own]
    shapes = [
        f"{name} is {list(given[name].shape)}, the model's {list(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    types = [
        f"{name} is {_short(given[name].dtype)}, the model's {_short(own[name].dtype)}"
        for name in own
        if name in given and _kind_of_numbers(given[name]) != _kind_of_numbers(own[name])
    ]
    return "; ".join(
        f"{title} {', '.join(found[:3])}{f' and {len(found) - 3} more' if len(found) > 3 else ''}"
        for title, found in (
            *(("missing:", missing), ("unexpected:", unexpected)),
            *(("other shapes:", shapes), ("other types:", types)),
        )
        if found
    )


def _is_for_other_classes(given: Tensor, own: Tensor) -> bool:
    """Whether two tensors of a head differ in the number of classes, their first dimension, and in nothing else."""
    return given.ndim == own.ndim > 0 and given.shape[0] != own.shape[0] and given.shape[1:] == own.shape[1:]


def _kind_of_numbers(tensor: Tensor) -> str:
    if tensor.is_floating_point():
        return "floating"
    return "complex" if tensor.is_complex() else "whole"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def plain_name(name: str) -> str:
    """The name without the prefixes of wrappers; torch.compile may also wrap a submodule."""
    name = name.replace(COMPILED_PREFIX, "")
    while name.startswith(PARALLEL_PREFIX):
        name = name.removeprefix(PARALLEL_PREFIX)
    return name
