"""Losses, optimizers, schedules and metrics of the user's own, which the config names as `package.module:make`.

`training/own_trials.py` tries each before a run trains. docs/your-code.md has the contracts with examples.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.config.dotted_names import split_dotted
from signs_dist.config.settings import LossConfig, OptimConfig, ScheduleConfig
from signs_dist.errors import UserError
from signs_dist.own_code import call_own, failures_told, find_own

Schedule = Callable[[int, int, int], float]
"""(images seen, images of the run, images of an epoch) → factor on optim.lr for the next step."""
Metric = Callable[[Tensor, Tensor], float]
"""(probabilities float32 [N, C], labels int64 [N]), on the CPU → a number."""


class OwnLoss:
    """A loss of the user's own: `make(**loss.args)` gives a callable (logits, labels) → losses.

    It is called with logits float32 [B, C] and labels int64 [B], and returns one loss for each image, floating [B]. If
    `make` has a parameter `num_classes`, it gets C. An nn.Module may be the callable, as
    `nn.CrossEntropyLoss(reduction="none")`; its buffers are moved to the device of the logits.

    Raises:
        UserError: it cannot be found or made, fails, or returns something else.
    """

    def __init__(self, config: LossConfig, num_classes: int) -> None:
        self._what = f"loss.name={config.name}"
        function = call_own(
            "loss.name",
            config.name,
            find_own("loss.name", config.name),
            given={},
            optional={"num_classes": num_classes},
            args=config.args,
            args_setting="loss.args",
        )
        if not callable(function):
            raise UserError(
                f"{self._what} returns a {type(function).__name__}. It must return a function (logits, labels) → "
                f"losses."
            )
        if isinstance(function, nn.Module) and next(function.parameters(), None) is not None:
            raise UserError(f"{self._what} has parameters, which no optimizer trains. Make them buffers.")
        self._functions: dict[torch.device, Callable[..., Any]] = {torch.device("cpu"): function}

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses float32 [B] of logits [B, C] and labels int64 [B]."""
        with failures_told(self._what, f"is called with logits {list(logits.shape)} and labels {list(labels.shape)}"):
            losses = self._on(logits.device)(logits.float(), labels)
        if problem := _problem_of_losses(losses, len(labels)):
            raise UserError(f"{self._what} {problem}")
        result: Tensor = losses.float()
        return result

    def _on(self, device: torch.device) -> Callable[..., Any]:
        """The function on a device: a module has a copy on each."""
        if device not in self._functions:
            function = self._functions[torch.device("cpu")]
            on_device = copy.deepcopy(function).to(device) if isinstance(function, nn.Module) else function
            self._functions[device] = on_device
        return self._functions[device]


def _problem_of_losses(losses: Any, num_images: int) -> str:
    wanted = f"It must return one loss for each image: a floating tensor [{num_images}] for {num_images} images."
    if not isinstance(losses, Tensor):
        kind = "nothing (None)" if losses is None else f"a {type(losses).__name__}"
        return f"returns {kind}. {wanted}"
    if losses.ndim == 0:
        return f"returns a single number. {wanted} A loss of torch does so with reduction='none'."
    if tuple(losses.shape) != (num_images,):
        return f"returns a tensor {list(losses.shape)}. {wanted}"
    return "" if losses.is_floating_point() else f"returns {str(losses.dtype).removeprefix('torch.')}. {wanted}"


def build_own_optimizer(groups: list[dict[str, Any]], config: OptimConfig) -> torch.optim.Optimizer:
    """An optimizer of the user's own: `make(groups, lr=…, weight_decay=…, **optim.args)`.

    Args:
        groups: parameters in groups, as torch.optim takes them; a group may have its own weight_decay.
        config: the section optim.

    Returns:
        A torch.optim.Optimizer over exactly these parameters in this order. Its state is part of each checkpoint: for
        each parameter, floating tensors and numbers that are not negative.

    Raises:
        UserError: it cannot be found or made, or gives something else.
    """
    what = f"optim.name={config.name}"
    function = find_own("optim.name", config.name)
    decay = {"weight_decay": config.weight_decay}
    optimizer = call_own(
        "optim.name",
        config.name,
        function,
        positional=([dict(group) for group in groups],),
        given={"lr": config.lr} | (decay if config.weight_decay else {}),
        optional={} if config.weight_decay else decay,
        args=config.args,
        args_setting="optim.args",
    )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UserError(f"{what} returns a {type(optimizer).__name__}, which is not a torch.optim.Optimizer.")
    own = [[id(parameter) for parameter in group["params"]] for group in optimizer.param_groups]
    if own != [[id(parameter) for parameter in group["params"]] for group in groups]:
        raise UserError(
            f"{what} has other parameters than it was given, or another order. Give its first argument to the "
            f"constructor of torch.optim.Optimizer as it is."
        )
    return optimizer


def build_own_schedule(config: ScheduleConfig) -> Schedule:
    """A schedule of the user's own: `make(**schedule.args)` gives a function (images_seen, images_total,
    images_per_epoch) → factor.

    The factor multiplies optim.lr for the step that starts after `images_seen` images. It is finite and not negative,
    and depends on the three numbers alone, so that a resumed run has the same rates.

    Raises:
        UserError: it cannot be found or made; when it is called, another factor.
    """
    what = f"schedule.name={config.name}"
    function = call_own(
        "schedule.name",
        config.name,
        find_own("schedule.name", config.name),
        given={},
        args=config.args,
        args_setting="schedule.args",
    )
    if not callable(function):
        raise UserError(
            f"{what} returns a {type(function).__name__}. It must return a function (images_seen, images_total, "
            f"images_per_epoch) → factor."
        )

    def schedule(images_seen: int, images_total: int, images_per_epoch: int) -> float:
        numbers = (images_seen, images_total, images_per_epoch)
        with failures_told(what, f"is called with {numbers}"):
            factor = _to_float(function(*numbers))
        if factor is None or not (math.isfinite(factor) and factor >= 0):
            told = "something that is no number" if factor is None else f"{factor:g}"
            raise UserError(
                f"{what} gives {told} for images_seen={images_seen}, images_total={images_total}, images_per_epoch="
                f"{images_per_epoch}. It must give a finite factor that is not negative."
            )
        return factor

    return schedule


def build_metrics(names: Sequence[str], num_classes: int) -> dict[str, Metric]:
    """Metrics of the user's own by the names of their functions: each `make(num_classes)` gives a function
    (probabilities float32 [N, C], labels int64 [N]) → number.

    The tensors are on the CPU, and hold all images of a split, each once, in the order of the split.

    Raises:
        UserError: one cannot be found or made; when it is called, if it fails or gives no number.
    """
    return {split_dotted(name)[1]: _build_metric(name, num_classes) for name in names}


def _build_metric(name: str, num_classes: int) -> Metric:
    what = f"evaluate.metrics={name}"
    function = call_own(
        "evaluate.metrics",
        name,
        find_own("evaluate.metrics", name),
        positional=(num_classes,),
        given={},
        args={},
        args_setting="evaluate.metrics",
    )
    if not callable(function):
        raise UserError(
            f"{what} returns a {type(function).__name__}. Called with the number of classes, it must return a function "
            f"(probabilities, labels) → number."
        )

    def metric(probabilities: Tensor, labels: Tensor) -> float:
        with failures_told(what, f"is called with probabilities {list(probabilities.shape)}"):
            value = _to_float(function(probabilities, labels))
        if value is None:
            raise UserError(f"{what} gives something that is no number. It must give one number for all images.")
        return value

    return metric


def compute_metrics(metrics: Mapping[str, Metric], probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """The value of each metric for probabilities float32 [N, C] and labels int64 [N], on the CPU."""
    return {name: metric(probabilities.clone(), labels.clone()) for name, metric in metrics.items()}


def _to_float(value: Any) -> float | None:
    """A number of Python, NumPy or torch as a float; None for anything else."""
    if isinstance(value, (str, bytes)) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
