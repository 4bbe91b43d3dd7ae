"""Whether a checkpoint fits the run that resumes from it.

A state of another shape ends the process in the optimizer's kernel, or trains other weights in silence.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from signs_dist.checkpointing.content import describe
from signs_dist.config.settings import Config
from signs_dist.learning.optim import state_names
from signs_dist.models.weights import differences

_MEANINGLESS = ("params", "lr", "fused", "foreach", "capturable", "differentiable", "maximize", "initial_lr")
"""Entries of an optimizer's group that are compared elsewhere, or depend on the device and on the release of torch."""

_SQUARES = ("exp_avg_sq", "square_avg", "sum")
"""Entries of an optimizer's state whose square root is taken."""


@dataclasses.dataclass(frozen=True)
class Expected:
    """The run that resumes from a checkpoint.

    Attributes:
        weights: the model's parameters and buffers by their plain names.
        trainable: the names of those that train.
        parameters: the parameters of the optimizer in the order of their numbers.
        groups: `param_groups` of the optimizer's state dict.
        config: all settings.
        num_steps: the steps of an epoch.
        num_classes: the number of classes.
        fingerprint: SHA-256 of the training images.
    """

    weights: Mapping[str, Tensor]
    trainable: Collection[str]
    parameters: Sequence[Tensor]
    groups: Sequence[Mapping[str, Any]]
    config: Config
    num_steps: int
    num_classes: int
    fingerprint: str


def find_misfits(content: Mapping[str, Any], expected: Expected) -> list[str]:
    """Why a run cannot resume from a content in which `find_faults` finds nothing; empty if it can."""
    return list(
        itertools.chain(
            _misfits_of_weights("model", content["model"], expected),
            _misfits_of_weights("ema", content["ema"]["weights"], expected) if content["ema"] is not None else (),
            _misfits_of_groups(content, expected),
            _misfits_of_state(content, expected),
            _misfits_of_place(content, expected),
        )
    )


def resumes_optimizer(before: Mapping[str, Any], now: Config) -> bool:
    """Whether the state of the optimizer of a checkpoint's config is a state of the optimizer of `now`.

    It numbers the parameters by their groups: with other groups, a number stands for another parameter.
    """
    has_same_state = _saved_state_names(before) == state_names(now.optim.name, now.optim.momentum)
    return has_same_state and _what_makes_groups(before) == _what_makes_groups(now.model_dump(mode="json"))


def _what_makes_groups(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """The settings that decide which parameter is in which group; () if all are at their defaults."""
    optim, model = config.get("optim", {}), config.get("model", {})
    entries = optim.get("groups") or ()
    matches = [entry.get("match") if isinstance(entry, Mapping) else entry for entry in entries]
    has_depths, thaws = optim.get("layer_decay") is not None, model.get("thaw_after_epochs") is not None
    return (matches, has_depths, thaws) if matches or has_depths or thaws else ()


def _saved_state_names(config: Mapping[str, Any]) -> frozenset[str]:
    saved = config.get("optim", {})
    default = Config().optim
    return state_names(saved.get("name", default.name), saved.get("momentum", default.momentum))


def _misfits_of_weights(name: str, weights: Mapping[str, Tensor], expected: Expected) -> Iterator[str]:
    if misfit := differences(expected.weights, weights):
        yield f"{name} holds the weights of another model: {misfit}"
        return
    for key, tensor in weights.items():
        own = expected.weights[key]
        if tensor.dtype != own.dtype:
            yield f"{name}.{key} is {tensor.dtype}, the model's {own.dtype}"
        elif key in expected.trainable and not bool(tensor.isfinite().all()):
            yield f"{name}.{key} holds values that are not finite numbers"


def _misfits_of_groups(content: Mapping[str, Any], expected: Expected) -> Iterator[str]:
    if _what_makes_groups(content["config"]) != _what_makes_groups(expected.config.model_dump(mode="json")):
        return  # the state is not loaded
    saved = content["optimizer"]["param_groups"]
    if [group["params"] for group in saved] != [list(group["params"]) for group in expected.groups]:
        yield "optimizer.param_groups holds an optimizer of other parameters"
        return
    before = content["config"].get("optim", {})
    now = expected.config.model_dump(mode="json")["optim"]
    if any(before.get(name, value) != value for name, value in now.items()):
        return  # settings of the optimizer have changed, which the user has accepted
    for number, (group, own) in enumerate(zip(saved, expected.groups, strict=True)):
        for name in own.keys() & group.keys() - set(_MEANINGLESS):
            if _plain(group[name]) != _plain(own[name]):
                place = f"optimizer.param_groups[{number}].{name}"
                yield f"{place} is {describe(group[name])}, the config's {describe(own[name])}"


def _misfits_of_state(content: Mapping[str, Any], expected: Expected) -> Iterator[str]:
    if not resumes_optimizer(content["config"], expected.config):
        return  # the state is not loaded
    names = _saved_state_names(content["config"])
    for number, state in content["optimizer"]["state"].items():
        if number >= len(expected.parameters):
            return  # `_misfits_of_groups` says it
        own, place = expected.parameters[number], f"optimizer.state[{number}]"
        if state and state.keys() != names:
            yield f"{place} holds {', '.join(map(str, state))}, and must hold {', '.join(sorted(names)) or 'nothing'}"
        for name in state.keys() & names:
            if fault := _misfit_of_entry(name, state[name], own, content["images"]):
                yield f"{place}.{name} {fault}"


def _misfit_of_entry(name: str, value: Any, own: Tensor, num_images: int) -> str:
    """What is wrong with an entry of the state of the parameter `own` after `num_images`; "" if nothing is."""
    if name == "step":
        if isinstance(value, Tensor) and value.numel() != 1:
            return f"is {describe(value)}, and must be one number"
        steps = float(value)
        if not (0 <= steps < math.inf and steps.is_integer()):
            return f"is {steps:g}, and must count steps"
        return "" if steps <= num_images else f"is {steps:g} after {num_images} images"
    if not isinstance(value, Tensor) or value.shape != own.shape:
        return f"is {describe(value)}, its parameter {describe(own)}"
    if value.dtype not in (own.dtype, torch.float32):
        return f"is {describe(value)}, its parameter {describe(own)}"
    if bool(value.isnan().any()):
        return "holds values that are no numbers (NaN)"
    return "holds sums of squares below 0" if name in _SQUARES and bool((value < 0).any()) else ""


def _misfits_of_place(content: Mapping[str, Any], expected: Expected) -> Iterator[str]:
    if len(content["classes"]) != expected.num_classes:
        yield f"it has {len(content['classes'])} classes, the data {expected.num_classes}"
    if not _has_same_epochs(content, expected):
        return  # the user has accepted other images or another batch
    epoch, step, batch = content["cursor"]["epoch"], content["cursor"]["step"], content["global_batch"]
    if step > expected.num_steps:
        yield f"step {step} of epoch {epoch + 1} is beyond the {expected.num_steps} steps of an epoch"
    elif content["images"] != (epoch * expected.num_steps + step) * batch:
        yield f"{content['images']} images are not those of {epoch} epochs and {step} steps of {batch}"


def _has_same_epochs(content: Mapping[str, Any], expected: Expected) -> bool:
    """Whether an epoch of the run has as many steps as an epoch had when the checkpoint was saved."""
    saved, now = content["config"].get("train", {}), expected.config.train
    fingerprint = content["run"].get("data", {}).get("fingerprints", {}).get("train")
    return bool(
        fingerprint == expected.fingerprint
        and content["global_batch"] == now.global_batch
        and saved.get("epoch_steps") == now.epoch_steps
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
