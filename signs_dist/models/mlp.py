"""A multilayer perceptron on raw pixels: the smallest network that trains, a plain nn.Sequential."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from signs_dist.models.registry import Channels, DropProbability, register

HiddenLayers = Annotated[tuple[Channels, ...], Field(strict=False)]
"""Units of each hidden layer. Not strict, because YAML has lists and no tuples."""


@register
def mlp(
    num_classes: int, image_size: int, hidden: HiddenLayers = (128, 64), dropout: DropProbability = 0.0
) -> nn.Module:
    """Flatten, then a linear layer, ReLU and dropout for each entry of `hidden`, then the classes.

    Images [B, 3, image_size, image_size] → logits [B, num_classes].
    """
    layers: list[nn.Module] = [nn.Flatten()]
    num_inputs = 3 * image_size * image_size
    for num_units in hidden:
        layers += [nn.Linear(num_inputs, num_units), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        num_inputs = num_units
    layers.append(nn.Linear(num_inputs, num_classes))
    return nn.Sequential(*layers)
