"""Whether the content of a checkpoint can be what a run saved.

A good SHA-256 says that the bytes are as they were written, not who wrote them. So each value is looked at before it is
used: its type, its range, and whether it agrees with the others. Whether it fits a run: see `fitting`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from signs_dist.config.section import section_of
from signs_dist.config.settings import Config
from signs_dist.errors import CheckpointError, UserError
from signs_dist.models.weights import find_odd_tensor

FORMAT = 2
"""The version of a checkpoint's content that is written, and the only one that is read."""
MAX_DEPTH = 32
MAX_VALUES = 1_000_000
LATEST_SECONDS = 2.0**37
"""In seconds since 1970 more than 4,000 years; as a duration as well."""
LARGEST_RATE = 1e30
_LARGEST = 2**62
"""More than a run has steps or images; below it, sums of whole numbers fit in 64 bits."""


def require_whole(content: Mapping[str, Any], path: Path) -> None:
    """Raise if a run could not have saved `content`, the content of the file `path`.

    Raises:
        CheckpointError: it is broken, or is no checkpoint of a run.
        UserError: it has the format of another release, which may be whole.
    """
    missing = [name for name in ("format", "model", "optimizer", "cursor", "config") if name not in content]
    if missing:
        raise CheckpointError(f"{path} is no checkpoint of a run: it has no {', '.join(missing)}.")
    number = content["format"]
    if type(number) is int and number > 0 and number != FORMAT:
        raise UserError(
            f"{path} has format {describe(number)}, and this release of signs_dist reads format {FORMAT}. Resume with "
            f"the release that wrote it{_name_release(content)}, or choose another --run-dir."
        )
    faults = find_faults(content)
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise CheckpointError(f"{path} is broken: {faults[0]}{more}.")


def find_faults(content: Mapping[str, Any]) -> list[str]:
    """What is wrong with a content by itself; empty if a run could have saved it.

    Args:
        content: of the current format.
    """
    if strange := _find_strange(content):
        return [strange]  # what is nested too deeply is looked at no further
    faults = []
    for name, check in _CHECKS.items():
        if name not in content:
            faults += [] if name in _SINCE_LATER else [f"it has no {name}"]
        elif fault := check(content[name]):
            faults.append(_join(name, fault))
    return faults or list(_find_contradictions(content))


def find_fault_of_optimizer(state_dict: Any) -> str:
    """Why the state dict of an optimizer cannot be part of a checkpoint; "" if it can."""
    fault = _check_optimizer(state_dict)
    return _join("optimizer", fault) if fault else ""


def _join(name: str, fault: str) -> str:
    """A fault after the name of its entry; it may begin with a place within the entry."""
    return f"{name}{fault}" if fault.startswith(("[", ".")) else f"{name} {fault}"


def _name_release(content: Mapping[str, Any]) -> str:
    """The release that the manifest within a content names, in brackets; "" without one."""
    run = content.get("run")
    versions = run.get("versions") if isinstance(run, dict) else None
    version = versions.get("signs_dist") if isinstance(versions, dict) else None
    return f" (signs_dist {version[:40]})" if isinstance(version, str) and version else ""


def _find_strange(content: Any) -> str:
    """Text on a value that no checkpoint holds, or on too many or too deeply nested values; "" without one."""
    waiting: list[tuple[Any, str, int]] = [(content, "", 0)]
    num_values = 0
    while waiting:
        value, name, depth = waiting.pop()
        num_values += 1
        if depth > MAX_DEPTH:
            return f"{name[:60]}… is nested more than {MAX_DEPTH} levels deep"
        if num_values > MAX_VALUES:
            return f"it holds more than {MAX_VALUES:,} values"
        if isinstance(value, Tensor):
            if odd := find_odd_tensor({name: value}):
                return odd
        elif isinstance(value, dict):
            if any(type(key) is not str and not (type(key) is int and 0 <= key <= _LARGEST) for key in value):
                return f"{name or 'it'} has a key that is no text"
            waiting += [(inner, f"{name}.{key}"[-200:].lstrip("."), depth + 1) for key, inner in value.items()]
        elif type(value) in (list, tuple):
            waiting += [(inner, f"{name}[{number}]", depth + 1) for number, inner in enumerate(value)]
        elif type(value) not in (str, int, float, bool, type(None)):
            return f"{name} is of type {type(value).__name__}"
    return ""


def _one_of(*legal: str) -> Callable[[Any], str]:
    return lambda value: "" if value in legal else f"is {describe(value)}, and must be {' or '.join(legal)}"


def _whole(least: int = 0, most: int = _LARGEST) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if type(value) is int and least <= value <= most:
            return ""
        return f"is {describe(value)}, and must be a whole number of at least {least}"

    return check


def _number(least: float = 0.0, most: float = LATEST_SECONDS) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if type(value) in (int, float) and least <= value <= most:  # false for NaN
            return ""
        return f"is {describe(value)}, and must be a number from {least:g} to {most:g}"

    return check


def _check_weights(value: Any) -> str:
    if not isinstance(value, dict) or not value:
        return f"is {describe(value)}, and must hold tensors by name"
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            return f"[{describe(name)}] is {describe(tensor)}, and must be a tensor"
    return ""


def _check_average(value: Any) -> str:
    if value is None:
        return ""
    return _check_fields(value, {"num_updates": _whole(), "weights": _check_weights})


def _check_fields(value: Any, checks: Mapping[str, Callable[[Any], str]]) -> str:
    if not isinstance(value, dict) or value.keys() != checks.keys():
        return f"is {describe(value)}, and must hold {', '.join(checks)}"
    return next((f".{_join(name, fault)}" for name, check in checks.items() if (fault := check(value[name]))), "")


def _check_cursor(value: Any) -> str:
    return _check_fields(value, {"epoch": _whole(), "step": _whole()})


def _check_best(value: Any) -> str:
    if value is None:
        return ""
    # The loss of an epoch is infinite or NaN if a sample's is.
    return _check_fields(value, {"epoch": _whole(1), "accuracy": _number(0, 1), "loss": _check_float})


def _check_share(value: Any) -> str:
    return "" if value is None else _number(0, 1)(value)


def _check_float(value: Any) -> str:
    return "" if type(value) is float else f"is {describe(value)}, and must be a number with a fraction"


def _check_sums(value: Any) -> str:
    if value is None:
        return ""
    return _check_fields(value, dict.fromkeys(("loss", "confusion", "bad"), _check_counts))


def _check_counts(value: Any) -> str:
    if isinstance(value, Tensor) and value.dtype == torch.int64:
        return ""
    return f"is {describe(value)}, and must be a tensor of int64"


def _check_scaler(value: Any) -> str:
    if value == {}:
        return ""
    factors = {
        "scale": _number(2.0**-126, 2.0**127),
        "growth_factor": _number(1, 2**20),
        "backoff_factor": _number(0, 1),
    }
    return _check_fields(value, {**factors, "growth_interval": _whole(1), "_growth_tracker": _whole()})


def _check_classes(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value) and _are_distinct(value):
        return ""
    return f"is {describe(value)}, and must be a list of different names"


def _are_distinct(values: Sequence[Any]) -> bool:
    return len(set(values)) == len(values)


def _check_config(value: Any) -> str:
    if not isinstance(value, dict):
        return f"is {describe(value)}, and must hold the settings of a run"
    for name, field in Config.model_fields.items():
        if section_of(field.annotation) is not None and not isinstance(value.get(name, {}), dict):
            return f".{name} is {describe(value[name])}, and must be a section"
    tensor = _find_tensor(value)
    return f"holds a tensor at {tensor}" if tensor else ""


def _check_run(value: Any) -> str:
    if not isinstance(value, dict):
        return f"is {describe(value)}, and must tell about the run"
    if tensor := _find_tensor(value):
        return f"holds a tensor at {tensor}"
    data = value.get("data", {})
    prints = data.get("fingerprints", {}) if isinstance(data, dict) else None
    if not isinstance(prints, dict) or not all(isinstance(text, str) for text in prints.values()):
        return ".data.fingerprints must hold a text for each split"
    return ""


def _find_tensor(value: Any, name: str = "") -> str:
    """The place of a tensor in plain values of known depth; "" without one."""
    if isinstance(value, Tensor):
        return name or "its top"
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    return next((found for key, inner in pairs if (found := _find_tensor(inner, f"{name}.{key}".lstrip(".")))), "")


def _check_optimizer(value: Any) -> str:
    if fault := _check_fields(value, {"state": _check_mapping, "param_groups": _check_groups}):
        return fault
    numbers = [number for group in value["param_groups"] for number in group["params"]]
    if numbers != list(range(len(numbers))):
        return ".param_groups does not number the parameters from 0"
    for number, state in value["state"].items():
        if number not in range(len(numbers)) or not isinstance(state, dict):
            return f".state[{describe(number)}] is {describe(state)}, and there are {len(numbers)} parameters"
        for name, entry in state.items():
            if fault := _check_state(entry):
                return f".state[{number}].{name} {fault}"
    return ""


def _check_mapping(value: Any) -> str:
    return "" if isinstance(value, dict) else f"is {describe(value)}, and must be a mapping"


def _check_groups(value: Any) -> str:
    if not isinstance(value, list) or not all(isinstance(group, dict) for group in value):
        return f"is {describe(value)}, and must be a list of groups"
    for number, group in enumerate(value):
        numbers = group.get("params")
        if not isinstance(numbers, list) or not all(type(one) is int for one in numbers):
            return f"[{number}].params is {describe(numbers)}, and must be a list of numbers"
        if fault := _number(0.0, LARGEST_RATE)(group.get("lr")):
            return f"[{number}].lr {fault}"
        if tensor := _find_tensor(group):
            return f"[{number}] holds a tensor at {tensor}"
    return ""


def _check_state(value: Any) -> str:
    if isinstance(value, Tensor):
        return "" if value.is_floating_point() else f"is {describe(value)}, and must be floating"
    return _number(0.0, float(_LARGEST))(value)


_CHECKS: dict[str, Callable[[Any], str]] = {
    "format": _whole(FORMAT, FORMAT),
    "cursor": _check_cursor,
    "images": _whole(),
    "global_batch": _whole(1),
    "micro_batch": _whole(1),
    "precision": _one_of("float32", "bfloat16", "float16"),
    "classes": _check_classes,
    "config": _check_config,
    "run": _check_run,
    "model": _check_weights,
    "ema": _check_average,
    "optimizer": _check_optimizer,
    "scaler": _check_scaler,
    "learning_rate": _number(0.0, LARGEST_RATE),
    "sums": _check_sums,
    "best": _check_best,
    "best_macro_f1": _check_share,
    "clean_check": _check_cursor,
    "train_seconds": _number(),
    "saved_at": _number(),
}
"""Each entry of a content, and what is wrong with it: the end of a sentence, or "" if nothing is."""
_SINCE_LATER = ("best_macro_f1", "clean_check")
"""Entries that checkpoints of earlier releases do not have, or runs without checks."""


def _find_contradictions(content: Mapping[str, Any]) -> Iterator[str]:
    """What two entries of a content say differently. Each by itself is legal."""
    epoch, step = content["cursor"]["epoch"], content["cursor"]["step"]
    batch, images = content["global_batch"], content["images"]
    in_epochs = images - step * batch  # the images of the finished epochs
    per_epoch = in_epochs // epoch if epoch else 0
    if in_epochs != per_epoch * epoch or per_epoch % batch or (epoch and step * batch > per_epoch):
        yield f"{images} images are not those of {epoch} epochs and {step} steps of {batch}"
    settings = content["config"]
    epochs = settings.get("train", {}).get("epochs")
    if type(epochs) is int and (epoch > epochs or (epoch == epochs and step)):
        yield f"{epoch} epochs and {step} steps are done of a run of {epochs} epochs"
    if batch % content["micro_batch"]:
        yield f"micro-batches of {content['micro_batch']} do not make a batch of {batch}"
    if content["best"] is not None and content["best"]["epoch"] > epoch:
        yield f"its best epoch is {content['best']['epoch']}, and {epoch} are finished"
    if (content["ema"] is None) != (settings.get("ema", {}).get("decay") is None):
        yield "ema and config.ema.decay differ on whether there is an average of the weights"
    if content["sums"] is not None:
        yield from _contradictions_of_sums(content["sums"], len(content["classes"]), step * batch)


def _contradictions_of_sums(sums: Mapping[str, Tensor], num_classes: int, num_images: int) -> Iterator[str]:
    shapes = {"loss": (), "confusion": (num_classes**2,), "bad": ()}
    for name, shape in shapes.items():
        if tuple(sums[name].shape) != shape:
            yield f"sums.{name} is {describe(sums[name])}, and must be {list(shape)}"
            return
    if int(sums["confusion"].min()) < 0 or int(sums["confusion"].sum()) != num_images:
        yield f"sums.confusion does not count the {num_images} images of the epoch"
    if not 0 <= int(sums["bad"]) <= num_images:
        yield f"sums.bad counts {int(sums['bad'])} of {num_images} images"


def describe(value: Any) -> str:
    """A value for a message, in a few words."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, (dict, list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    if type(value) is float and not math.isfinite(value):
        return str(value)
    if type(value) is int and abs(value) > _LARGEST:
        return f"a number of {value.bit_length():,} bits"
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
