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
from signs_dist.extras import require_extra
from signs_dist.files import find_other_kind
from signs_dist.models.archive_members import MAX_PICKLE_BYTES, find_bad_member
from signs_dist.models.other_files import describe_other_file, is_safetensors_file
from signs_dist.models.trainable import head_names
from signs_dist.models.weight_names import shortened

logger = logging.getLogger(__name__)

PARALLEL_PREFIX = "module."
"""DDP and DataParallel put it before names."""
COMPILED_PREFIX = "_orig_mod."
"""torch.compile puts it before names."""

_CONTAINERS = ("state_dict_ema", "model_ema", "model", "state_dict", "model_state_dict", "net", "network", "weights")
"""Keys of a dictionary under which training scripts save weights; an average of the weights comes first."""

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

    The file is a run's model.pt, a file of checkpoints/ (its average is read if it has one), any other state dict, a
    dictionary with one under a key such as `state_dict` or `model`, or a safetensors file.

    Raises:
        UserError: as `read_plain`; also if the file has no weights, two tensors for one plain name, or a tensor that
            holds no values in plain memory (sparse, quantized, on the meta device).
    """
    return weights_in(read_safetensors(path) if is_safetensors_file(path) else read_plain(path, MAX_PICKLE_BYTES), path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file, on the CPU.

    Raises:
        UserError: the package safetensors is not installed, or the file is broken.
    """
    require_extra("safetensors", "safetensors", str(path))
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, *_BROKEN_FILE_ERRORS) as error:
        raise UserError(
            f"{path} cannot be read as a checkpoint: it is a damaged safetensors file ({error}). Copy or download it "
            f"again."
        ) from error


def weights_in(value: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights in the content of the file `path`, as `read_weights`."""
    average = value.get("ema")
    inner = next((value[key] for key in _CONTAINERS if isinstance(value.get(key), Mapping)), value)
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


def load(model: nn.Module, state: dict[str, Tensor], source: str, left_out: Sequence[str] = ()) -> None:
    """Load `state` into `model`. A head that does not fit the data's classes is not loaded, and a warning is logged.

    Args:
        model: the network.
        state: its weights by their names in the network, and perhaps those of a head for other classes, or none.
        source: `model.weights`, for messages.
        left_out: names of what else the file holds, for a warning.

    Raises:
        UserError: other names or shapes differ. `model` is then unchanged.
    """
    own = model.state_dict()
    heads = head_names(model)
    new_head = _describe_new_head(own, state, heads)
    if new_head:
        state = {name: tensor for name, tensor in state.items() if not _is_within(name, heads)}
    if misfit := differences(own, state, [name for name in own if new_head and _is_within(name, heads)]):
        raise UserError(
            f"model.weights={source} is a checkpoint of another model. {misfit}. "
            f"Choose model.name and model.args that fit the file, or another file."
        )
    model.load_state_dict(state, strict=False)
    if new_head:
        logger.warning("%s %s", source, new_head)
    if left_out:
        logger.warning("%s also holds what this network has not: %s.", source, shortened(left_out))


def _describe_new_head(own: Mapping[str, Tensor], state: Mapping[str, Tensor], heads: Sequence[str]) -> str:
    """Why the head begins with new weights, as the end of a sentence; "" if the file's head is loaded."""
    names = [name for name in own if _is_within(name, heads)]
    if not names:
        return ""
    shown = ", ".join(heads)
    other = [name for name in names if name in state and _is_for_other_classes(state[name], own[name])]
    if other:
        return (
            f"has {state[other[-1]].shape[0]} classes, the data has {own[other[-1]].shape[0]}: the head ({shown}) is "
            f"not loaded and trains from new weights."
        )
    if not any(name in state for name in names):
        return f"has no head for this network: the head ({shown}) trains from new weights."
    return ""


def _is_within(name: str, modules: Sequence[str]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)


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
        f"{title} {shortened(found)}"
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
