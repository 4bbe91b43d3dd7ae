"""Build the network of the config's `model` section."""

from __future__ import annotations

import difflib

from torch import nn

from signs_dist.config.settings import ModelConfig
from signs_dist.errors import UserError
from signs_dist.models import dotted, torchvision_models, weights
from signs_dist.models.registry import BUILDERS, build_registered
from signs_dist.models.trainable import freeze_backbone

TORCHVISION_PREFIX = "torchvision:"


def create_model(config: ModelConfig, *, num_classes: int, image_size: int) -> nn.Module:
    """Build the network that `config` names, in float32 on the CPU.

    Its initial weights are drawn from torch's generator: seed it before the call. Then `config.weights` are loaded and
    `config.freeze` is applied. To restore a trained model, clear `weights` first: its own file holds all its weights.

    Args:
        config: name, arguments, weights, freezing.
        num_classes: number of logits.
        image_size: side of the images in pixels.

    Returns:
        A network from images [B, 3, image_size, image_size] to logits [B, num_classes].

    Raises:
        UserError: no such network, argument or weights, or an image size that the network cannot take.
    """
    if config.name.startswith(TORCHVISION_PREFIX):
        name = config.name.removeprefix(TORCHVISION_PREFIX)
        if name not in torchvision_models.names():
            raise unknown_name(config.name)
        model = torchvision_models.build_torchvision(
            name, num_classes=num_classes, image_size=image_size, args=config.args
        )
        if config.weights is not None:
            weights.load(
                model, torchvision_models.read_torchvision_weights(name, config.weights, image_size), config.weights
            )
    else:
        if config.name in BUILDERS:
            model = build_registered(config.name, num_classes=num_classes, image_size=image_size, args=config.args)
        elif dotted.is_dotted(config.name):
            model = dotted.build_dotted(config.name, num_classes=num_classes, image_size=image_size, args=config.args)
        else:
            raise unknown_name(config.name)
        if config.weights is not None:
            weights.load(model, weights.read_file(config.weights), config.weights)
    if config.freeze == "backbone":
        freeze_backbone(model)
    return model


def is_shipped(name: str) -> bool:
    """Whether a network comes with this project or with torchvision, and not from the user's own code."""
    if name in BUILDERS:
        return BUILDERS[name].__module__.startswith("signs_dist.")
    return name.startswith(TORCHVISION_PREFIX)


def unknown_name(name: str) -> UserError:
    """The error for a `model.name` that does not exist; it names the nearest legal names."""
    legal = [*BUILDERS, *(TORCHVISION_PREFIX + each for each in torchvision_models.names())]
    nearest = difflib.get_close_matches(name.lower(), legal, n=3, cutoff=0.6)
    if not nearest:  # `resnt18` is far from `torchvision:resnet18` by its letters alone
        nearest = difflib.get_close_matches(TORCHVISION_PREFIX + name.lower(), legal, n=3, cutoff=0.8)
    hint = f"Did you mean {' or '.join(nearest)}? " if nearest else ""
    return UserError(
        f"model.name={name} is not a network. {hint}"
        f"Legal: {', '.join(BUILDERS)}, {TORCHVISION_PREFIX}NAME (such as {TORCHVISION_PREFIX}resnet18), "
        f"or your own package.module:Class."
    )
