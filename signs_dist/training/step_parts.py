"""The parts of training steps and evaluations, each made from the config."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from signs_dist.config.dotted_names import is_dotted
from signs_dist.config.settings import AugmentConfig, Config, ScheduleConfig
from signs_dist.data.augment import BatchAugmenter
from signs_dist.data.own_augment import OwnAugmenter
from signs_dist.data.progressive import side_of_epoch
from signs_dist.learning.losses import build_evaluation_loss, build_loss
from signs_dist.learning.own_parts import build_own_schedule
from signs_dist.learning.precision import Precision
from signs_dist.learning.schedule import learning_rate_factor
from signs_dist.models.compiling import compile_network
from signs_dist.models.trial import Trial
from signs_dist.training import loop


def build_augmenter(config: AugmentConfig, seed: int) -> BatchAugmenter | OwnAugmenter | None:
    """What changes whole batches of training images; None if nothing does, or transforms change image by image."""
    if is_dotted(config.backend):
        return OwnAugmenter(config, seed)
    return BatchAugmenter(config, seed) if config.backend == "batch" else None


def make_side_of(config: Config) -> Callable[[int], int] | None:
    """A function from the epoch to the side of its training images; None if all epochs have one side."""
    if not config.train.progressive_sizes:
        return None
    return functools.partial(
        side_of_epoch,
        config.train.progressive_sizes,
        num_epochs=config.train.epochs,
        image_size=config.data.image_size,
    )


def make_forward(
    model: nn.Module,
    config: Config,
    num_classes: int,
    precision: Precision,
    class_weights: Sequence[float] | None = None,
) -> loop.ForwardWithLoss:
    """Forward and loss of a training pass."""
    compiled = compile_network(model, config.train.compile)
    loss_function = build_loss(config.loss, num_classes, class_weights)
    return loop.ForwardWithLoss(model, loss_function, precision, compiled)


def make_evaluation_forward(
    model: nn.Module, config: Config, num_classes: int, precision: Precision
) -> loop.EvaluationForward:
    """Forward and loss of an evaluation."""
    loss_function = build_evaluation_loss(config.loss, num_classes)
    flips, crops = config.evaluate.flip_average, config.evaluate.ten_crop_side
    return loop.EvaluationForward(model, loss_function, precision, flip_average=flips, ten_crop=crops)


def make_trial(
    model: nn.Module,
    forward: nn.Module,
    evaluation_forward: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    is_split: bool = True,
) -> Trial:
    """A trial of `model` over one micro-batch; the arguments are as in `Trial`, the modules of `loop`."""
    return Trial(
        model,
        train=lambda images, labels: forward(images, labels, [0]),
        evaluate=evaluation_forward,
        images=images,
        labels=labels,
        is_split=is_split,
    )


def make_learning_rate(
    schedule: ScheduleConfig, base: float, *, images_per_epoch: int, num_epochs: int
) -> Callable[[int], float]:
    """A function from the number of images seen to the learning rate of the next step; `base` is optim.lr."""
    if is_dotted(schedule.name):
        own = build_own_schedule(schedule)
        total = num_epochs * images_per_epoch
        return lambda images_seen: base * own(min(images_seen, total), total, images_per_epoch)

    def learning_rate(images_seen: int) -> float:
        return base * learning_rate_factor(
            schedule,
            images_seen=images_seen,
            images_total=num_epochs * images_per_epoch,
            images_per_epoch=images_per_epoch,
        )

    return learning_rate
