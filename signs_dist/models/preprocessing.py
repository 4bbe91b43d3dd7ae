"""Image size, mean and std that published weights were trained with, for the settings that a user has not given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signs_dist.config.preprocessing import is_of_same_weights, undecided, with_preprocessing
from signs_dist.config.reading import load_saved_config
from signs_dist.config.settings import Config
from signs_dist.errors import UserError
from signs_dist.models import timm_models, torchvision_models
from signs_dist.run_folder.folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Decided:
    """A config whose image size, mean and std are settled.

    Attributes:
        config: all settings.
        origins: where the settled values came from, by dotted key, for `--explain`.
    """

    config: Config
    origins: Mapping[str, str]


def decide(config: Config, run_path: Path | None = None) -> Decided:
    """Take what the user has not given of image size, mean and std from published weights.

    A run that has begun keeps its values, so that it resumes under another release of the library, or of this project.

    Args:
        config: all settings.
        run_path: the run folder, new or of an earlier attempt; None if it is not known.
    """
    names = undecided(config)
    if not names:
        return Decided(config, {})
    values, origin = _of_earlier_attempt(config, run_path), f"{run_path}"
    if not values:
        values, origin = published_preprocessing(config), f"the weights {config.model.weights} of {config.model.name}"
    taken = {name: values[name] for name in names if name in values}
    return Decided(with_preprocessing(config, taken), {f"data.{name}": origin for name in taken})


def published_preprocessing(config: Config) -> dict[str, Any]:
    """image_size (pixels), mean and std of the weights that `config.model` names; empty if there are no such weights.

    Sources: torchvision's `weights.transforms()`, timm's `pretrained_cfg`.

    Raises:
        UserError: timm is not installed.
    """
    library, _, name = config.model.name.partition(":")
    if library == "timm":
        timm_models.require_timm(config.model.name)
        found = timm_models.published(name).get(str(config.model.weights)) if name in timm_models.names() else None
        side, about = (found.input_size[-1], found) if found is not None else (0, None)
    else:
        members = torchvision_models.published(name) if name in torchvision_models.names() else {}
        found = members.get(str(config.model.weights))
        about = found.transforms() if found is not None else None
        side = about.crop_size[0] if about is not None else 0
    if about is None:
        return {}  # refused with the legal names when the network is built
    return {"image_size": int(side), "mean": _numbers(about.mean), "std": _numbers(about.std)}


def _of_earlier_attempt(config: Config, run_path: Path | None) -> dict[str, Any]:
    if run_path is None or not RunFolder(run_path).config.is_file():
        return {}
    try:
        before = load_saved_config(RunFolder(run_path).config)
    except UserError:
        return {}  # told when the run resumes
    return before.data.model_dump() if is_of_same_weights(config, before) else {}


def _numbers(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
