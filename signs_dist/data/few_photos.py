"""Settings for few photos, from which the default settings learn little: more epochs, and a lower learning rate.

docs/your-photos.md, "Few photos", has the accuracies behind the figures, and the commands that measure them.
"""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from signs_dist.config.settings import Config

FEW_STEPS = 300
"""Photos are few if 20 epochs of them are fewer steps."""
ENOUGH_STEPS = 900
"""Steps of a run that is advised for few photos."""
LEARNING_RATE = 0.02
"""The learning rate of SGD that is advised for few photos."""
_EPOCHS = 20


def settings_for_few(num_images: int, config: Config) -> dict[str, Any]:
    """The settings to change for few photos; none if there are enough, or if the config trains long already.

    Networks that start from weights, runs shortened by `train.epoch_steps` and learning rates that are low already need
    no change for this reason. A global batch of more images than there are is lowered in any case.

    Args:
        num_images: the training images.
        config: the settings as they are.
    """
    settings: dict[str, Any] = {}
    batch = config.train.global_batch
    if 0 < num_images < batch:
        batch = 2 ** int(math.log2(num_images))
        settings["train.global_batch"] = batch
    steps_an_epoch = max(1, num_images // batch)
    is_tuned = config.model.weights is not None or config.train.epoch_steps is not None
    is_long = config.train.epochs * steps_an_epoch >= FEW_STEPS
    if is_tuned or is_long or _EPOCHS * steps_an_epoch >= FEW_STEPS:
        return settings
    settings["train.epochs"] = math.ceil(ENOUGH_STEPS / steps_an_epoch)
    if config.optim.name == "sgd" and config.optim.lr > LEARNING_RATE:
        settings["optim.lr"] = LEARNING_RATE
    return settings


def as_typed(settings: dict[str, Any]) -> str:
    """Settings as they are typed after a command, quoted for YAML and for the shell."""
    from signs_dist.config.yaml_text import format_value

    return " ".join(shlex.quote(f"{name}={format_value(value)}") for name, value in settings.items())
