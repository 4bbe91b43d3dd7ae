"""Build the network of the config's `model` section."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from torch import nn

from signs_dist.config.settings import ModelConfig
from signs_dist.errors import UserError
from signs_dist.models import dotted, timm_models, torchvision_models, weights
from signs_dist.models.registry import BUILDERS, build_registered
from signs_dist.models.timm_models import TIMM_PREFIX
from signs_dist.models.trainable import freeze_backbone
from signs_dist.models.weight_names import without_prefix

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
    model = _build(config, num_classes=num_classes, image_size=image_size)
    if config.weights is not None:
        _load_weights(model, config, image_size)
    if config.freeze == "backbone":
        freeze_backbone(model)
    return model


def _build(config: ModelConfig, *, num_classes: int, image_size: int) -> nn.Module:
    name, args = config.name, _arguments(config)
    if name.startswith(TORCHVISION_PREFIX):
        inner = name.removeprefix(TORCHVISION_PREFIX)
        if inner not in torchvision_models.names():
            raise unknown_name(name)
        return torchvision_models.build_torchvision(inner, num_classes=num_classes, image_size=image_size, args=args)
    if name.startswith(TIMM_PREFIX):
        timm_models.require_timm(name)
        inner = name.removeprefix(TIMM_PREFIX)
        if inner not in timm_models.names():
            raise unknown_name(name)
        return timm_models.build_timm(inner, num_classes=num_classes, image_size=image_size, args=args)
    if name in BUILDERS:
        return build_registered(name, num_classes=num_classes, image_size=image_size, args=args)
    if dotted.is_dotted(name):
        return dotted.build_dotted(name, num_classes=num_classes, image_size=image_size, args=args)
    raise unknown_name(name)


def _arguments(config: ModelConfig) -> dict[str, Any]:
    """`model.args`, with `model.drop_path` under the name that the network's library has for it.

    Raises:
        UserError: the network has no such argument, or it is given twice.
    """
    if config.drop_path is None:
        return config.args
    name = config.name.partition(":")[2]
    argument, legal = "", False
    if config.name.startswith(TORCHVISION_PREFIX) and name in torchvision_models.names():
        argument = torchvision_models.DROP_PATH
        legal = argument in torchvision_models.legal_arguments(name)
    elif config.name.startswith(TIMM_PREFIX):
        timm_models.require_timm(config.name)
        if name in timm_models.names():
            argument = timm_models.DROP_PATH
            legal = argument in timm_models.legal_arguments(name)
    if not legal:
        raise UserError(
            f"model.drop_path={config.drop_path:g}: model.name={config.name} has no argument for it. Networks of "
            f"torchvision and timm with residual blocks have one, such as {TORCHVISION_PREFIX}convnext_tiny or "
            f"{TIMM_PREFIX}vit_tiny_patch16_224. Set model.drop_path=null."
        )
    if argument in config.args:
        raise UserError(f"model.drop_path sets model.args.{argument}, which is given too. Omit one of the two.")
    return {**config.args, argument: config.drop_path}


def _load_weights(model: nn.Module, config: ModelConfig, image_size: int) -> None:
    """Load `config.weights`, a local file or published weights, with the changes that the library makes to them."""
    assert config.weights is not None
    name = config.name.partition(":")[2]
    is_library = config.name.startswith((TORCHVISION_PREFIX, TIMM_PREFIX))
    left_out: list[str] = []
    if not is_library or Path(config.weights).is_file():
        state, left_out = without_prefix(weights.read_file(config.weights), model.state_dict().keys())
    elif config.name.startswith(TORCHVISION_PREFIX):
        state = torchvision_models.download(name, config.weights)
    else:
        state = timm_models.download(name, config.weights, image_size=image_size, args=_arguments(config))
    if config.name.startswith(TORCHVISION_PREFIX):
        state = torchvision_models.as_torchvision_loads_them(name, state, image_size)
    elif is_library:
        state = timm_models.as_timm_loads_them(model, state)
    weights.load(model, state, config.weights, left_out)


def is_shipped(name: str) -> bool:
    """Whether a network comes with this project or with torchvision, and not from the user's own code."""
    if name in BUILDERS:
        return BUILDERS[name].__module__.startswith("signs_dist.")
    return name.startswith(TORCHVISION_PREFIX)


def unknown_name(name: str) -> UserError:
    """The error for a `model.name` that does not exist; it names the nearest legal names."""
    legal = [*BUILDERS, *(TORCHVISION_PREFIX + each for each in torchvision_models.names())]
    if name.startswith(TIMM_PREFIX):
        legal = [TIMM_PREFIX + each for each in timm_models.names()]
    nearest = difflib.get_close_matches(name.lower(), legal, n=3, cutoff=0.6)
    if not nearest:  # `resnt18` is far from `torchvision:resnet18` by its letters alone
        nearest = difflib.get_close_matches(TORCHVISION_PREFIX + name.lower(), legal, n=3, cutoff=0.8)
    hint = f"Did you mean {' or '.join(nearest)}? " if nearest else ""
    architecture, dot, tag = name.removeprefix(TIMM_PREFIX).partition(".")
    if name.startswith(TIMM_PREFIX) and dot and architecture in timm_models.names():
        hint = (
            f"Weights are named apart: type model.name={TIMM_PREFIX}{architecture} model.weights={tag or 'DEFAULT'}. "
        )
    return UserError(
        f"model.name={name} is not a network. {hint}"
        f"Legal: {', '.join(BUILDERS)}, {TORCHVISION_PREFIX}NAME (such as {TORCHVISION_PREFIX}resnet18), "
        f"{TIMM_PREFIX}NAME (such as {TIMM_PREFIX}vit_tiny_patch16_224), or your own package.module:Class."
    )
