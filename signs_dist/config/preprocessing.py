"""Image size, mean and std of a config: given by the user, or to be taken from published weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signs_dist.config.settings import Config

PREPROCESSING = ("image_size", "mean", "std")
"""Settings of the section data that belong to weights: a network has learned from images prepared like this."""
LIBRARIES = ("torchvision", "timm")
"""What comes before the colon of a `model.name` whose weights are published under names."""


def undecided(config: Config) -> tuple[str, ...]:
    """Which of PREPROCESSING come from the weights: not given by the user, where the weights are published ones."""
    library, colon, _ = config.model.name.partition(":")
    weights = config.model.weights
    if library not in LIBRARIES or not colon or weights is None or Path(weights).is_file():
        return ()
    return tuple(name for name in PREPROCESSING if name not in config.data.model_fields_set)


def with_preprocessing(config: Config, values: Mapping[str, Any]) -> Config:
    """The config with these of PREPROCESSING, which count as given from now on."""
    return config.model_copy(update={"data": config.data.model_copy(update=dict(values))})


def is_of_same_weights(config: Config, other: Config) -> bool:
    """Whether two configs begin from the same weights of the same network."""
    return (config.model.name, config.model.weights) == (other.model.name, other.model.weights)
