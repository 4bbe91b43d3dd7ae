"""Try the user's own loss, optimizer, schedule, augmentation and metrics before a run trains with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.checkpointing.content import find_fault_of_optimizer
from signs_dist.checkpointing.fitting import entries_of_config
from signs_dist.checkpointing.tensors import Copier, find_other_values, put_optimizer
from signs_dist.config.dotted_names import is_dotted
from signs_dist.config.settings import Config, OptimConfig, ScheduleConfig
from signs_dist.data.generators import all_generators_kept, device_generator_kept
from signs_dist.data.own_augment import OwnAugmenter
from signs_dist.errors import UserError
from signs_dist.learning.losses import build_loss
from signs_dist.learning.own_parts import build_metrics, build_own_optimizer, build_own_schedule
from signs_dist.learning.parameter_groups import parameter_groups
from signs_dist.own_code import failures_told

NUM_TRIED = 4
"""Images of a trial."""
NUM_SCHEDULE_POINTS = 1000
"""Places of a run at which its schedule is tried."""
MOST_VALUES = 100_000
"""The optimizer is tried on copies of parameters with so many numbers in all, and of at least one in each group."""


@dataclasses.dataclass(frozen=True)
class TrialPlace:
    """Where own code is tried.

    Attributes:
        model: the network on its device.
        num_classes: of the data.
        images_per_epoch: images that an epoch trains on.
    """

    model: nn.Module
    num_classes: int
    images_per_epoch: int

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next(self.model.parameters()).device


def try_own_code(config: Config, place: TrialPlace) -> None:
    """Try whatever the config names of the user's own, besides the network. Does nothing where it names nothing.

    Weights, gradients and random generators are left as they were.

    Raises:
        UserError: the message names the setting and what is wrong.
    """
    named = (config.schedule.name, config.loss.name, config.augment.backend, config.optim.name)
    if not config.evaluate.metrics and not any(is_dotted(name) for name in named):
        return
    with all_generators_kept(), device_generator_kept(place.device):
        if is_dotted(config.schedule.name):
            total = config.train.epochs * place.images_per_epoch
            try_schedule(config.schedule, total, place.images_per_epoch)
        if is_dotted(config.loss.name):
            try_loss(config, place)
        if is_dotted(config.augment.backend):
            try_augment(config, place)
        if config.evaluate.metrics:
            try_metrics(config, place)
        if is_dotted(config.optim.name):
            try_optimizer(config.optim, place.model, exact=config.exact)


def try_loss(config: Config, place: TrialPlace) -> None:
    """One loss an image, finite, with a finite gradient that is not all zeros."""
    what = f"loss.name={config.loss.name}"
    logits = torch.randn(NUM_TRIED, place.num_classes, device=place.device, generator=_generator(place.device))
    logits.requires_grad_(True)
    labels = torch.arange(NUM_TRIED, device=place.device) % place.num_classes
    losses = build_loss(config.loss, place.num_classes)(logits, labels)
    if not bool(losses.isfinite().all()):
        raise UserError(
            f"{what} gives {_first_odd(losses):g} for logits between -3 and 3. It must give finite numbers."
        )
    if not losses.requires_grad:
        raise UserError(
            f"{what} has no gradient. Compute it from the logits with torch's operations, without .item(), .detach(), "
            f"argmax or NumPy."
        )
    with failures_told(what, "is differentiated"):
        torch.autograd.backward(losses.sum())
    if logits.grad is None or not bool(logits.grad.isfinite().all()):
        raise UserError(f"{what} has a gradient that is not finite for logits between -3 and 3.")
    if not bool(logits.grad.any()):
        raise UserError(f"{what} has a gradient of zeros, so that nothing would be learned.")


def try_schedule(config: ScheduleConfig, images_total: int, images_per_epoch: int) -> None:
    """Finite factors that are not negative, over the whole run, and the same when asked again."""
    schedule = build_own_schedule(config)
    places = sorted({images_total * number // NUM_SCHEDULE_POINTS for number in range(NUM_SCHEDULE_POINTS + 1)})
    factors = [schedule(seen, images_total, images_per_epoch) for seen in places]
    again = [schedule(seen, images_total, images_per_epoch) for seen in places]
    if factors != again:
        seen = next(seen for seen, one, other in zip(places, factors, again, strict=True) if one != other)
        raise UserError(
            f"schedule.name={config.name} gives another factor for images_seen={seen} when it is asked again. It must "
            f"depend on its three arguments alone, so that a resumed run has the same learning rates."
        )
    if not any(factors):
        raise UserError(f"schedule.name={config.name} gives 0 for the whole run, so that nothing would be learned.")


def try_augment(config: Config, place: TrialPlace) -> None:
    """Finite images of the same shape, and the same when asked again."""
    what, side = f"augment.backend={config.augment.backend}", config.data.image_size
    augment = OwnAugmenter(config.augment, config.seed)
    images = torch.rand(NUM_TRIED, 3, side, side, device=place.device, generator=_generator(place.device))
    samples = torch.arange(NUM_TRIED).numpy()
    results = [augment(images.clone(), samples, 0) for _ in range(2)]
    if not bool(results[0].isfinite().all()):
        raise UserError(f"{what} gives pixels that are not finite numbers.")
    if not torch.equal(*results):
        raise UserError(
            f"{what} gives other images when it is called again with the same images and keys. Draw from the keys or "
            f"from torch's generator, not from Python's or NumPy's, and keep nothing between calls."
        )


def try_metrics(config: Config, place: TrialPlace) -> None:
    """A number for random predictions."""
    num_images = 2 * place.num_classes
    logits = torch.randn(num_images, place.num_classes, generator=_generator(torch.device("cpu")))
    labels = torch.arange(num_images) % place.num_classes
    for metric in build_metrics(config.evaluate.metrics, place.num_classes).values():
        metric(logits.softmax(dim=1), labels)


def try_optimizer(config: OptimConfig, model: nn.Module, *, exact: bool) -> None:
    """Step copies of some parameters, and take up the state in a second optimizer, which must step alike."""
    what = f"optim.name={config.name}"
    copies = list(_copied(parameter_groups(model, config)))
    first = build_own_optimizer(copies, config)
    with failures_told(what, "steps"):
        _step(first, number=1)
    saved = Copier().copy(first.state_dict())
    if fault := find_other_values(saved, "its state_dict()") or find_fault_of_optimizer(saved):
        raise UserError(
            f"{what} has a state that no checkpoint can hold: {fault}. For each parameter, keep floating tensors and "
            f"numbers that are not negative."
        )
    second_copies = [group | {"params": [_leaf(one) for one in group["params"]]} for group in copies]
    second = build_own_optimizer(second_copies, config)
    with failures_told(what, "takes up its state"):
        put_optimizer(second, saved, Path("the trial"), entries_of_config(config))
    for optimizer in (first, second):
        with failures_told(what, "steps"):
            _step(optimizer, number=2)
    if not _are_equal(copies, second_copies):
        raise UserError(
            f"{what} goes on otherwise from its saved state: after load_state_dict(state_dict()) a step gives other "
            f"weights. Keep all that a step reads in self.state or in self.param_groups."
        )
    if exact:
        _step(first, number=3)
        _step(second, number=3, seed=1)
        if not _are_equal(copies, second_copies):
            raise UserError(
                f"exact=true does not work with {what}: a step draws random numbers, which differ between processes. "
                f"Use another optimizer, or exact=false."
            )
    if not all(bool(one.isfinite().all()) for group in copies for one in group["params"]):
        raise UserError(f"{what} gives weights that are not finite numbers after two steps with small gradients.")


def _copied(groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The groups with copies of their first parameters, as many as `MOST_VALUES` allows."""
    num_left = MOST_VALUES
    for group in groups:
        chosen: list[Tensor] = []
        for parameter in sorted(group["params"], key=lambda one: one.numel()):
            if not chosen or parameter.numel() <= num_left:
                chosen.append(_leaf(parameter))
                num_left -= parameter.numel()
        yield {**group, "params": chosen}


def _leaf(parameter: Tensor) -> Tensor:
    return nn.Parameter(parameter.detach().clone())


def _step(optimizer: torch.optim.Optimizer, *, number: int, seed: int = 0) -> None:
    """Step with gradients that are the same for the same number of a step."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.linspace(-1e-3, 1e-3 * number, parameter.numel(), device=parameter.device).reshape(
                parameter.shape
            )
    torch.manual_seed(seed)
    optimizer.step()


def _are_equal(groups: list[dict[str, Any]], others: list[dict[str, Any]]) -> bool:
    return all(
        torch.equal(one, other)
        for group, same in zip(groups, others, strict=True)
        for one, other in zip(group["params"], same["params"], strict=True)
    )


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device=device).manual_seed(1)


def _first_odd(values: Tensor) -> float:
    return float(values.detach()[~values.isfinite()][0])
