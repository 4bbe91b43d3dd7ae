"""Every classifier of torchvision, with a head for the data's classes. No other file here imports torchvision."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.models.on_meta import REFUSALS, EmptyOnMeta, describe_refusal, forward_on_meta
from signs_dist.models.registry import argument_defaults, check_argument_names, describe_arguments

LARGEST_SIZE_TRIED = 512
"""Largest side in pixels that is tried when a legal image size is searched."""

DROP_PATH = "stochastic_depth_prob"
"""torchvision's argument for model.drop_path."""
_SET_HERE = ("aux_logits", "init_weights", "transform_input", "input_size")


@functools.cache
def names() -> tuple[str, ...]:
    """Names of torchvision's classifiers, as `torchvision.models.list_models` gives them."""
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models))


def build_torchvision(name: str, *, num_classes: int, image_size: int, args: dict[str, Any]) -> nn.Module:
    """Build torchvision's network `name`, freshly initialised, with `num_classes` logits.

    GoogLeNet and Inception are built without auxiliary heads and always with their input transform, so that they take
    images normalised with ImageNet's mean and deviation, as all others do. Vision transformers are built for
    `image_size`.

    Raises:
        UserError: an argument that the network does not take, or an image size that it cannot take.
    """
    full_name = f"torchvision:{name}"
    legal = legal_arguments(name)
    check_argument_names(full_name, args, legal)
    refusal = _refusal(name, num_classes, image_size, args)
    if refusal is not None:
        raise _explained(refusal, name, num_classes, image_size, args)
    return _construct(name, num_classes, image_size, args)


def published(name: str) -> dict[str, Any]:
    """The published weights of a network: the name, or DEFAULT → torchvision's enum member."""
    import torchvision

    enum = torchvision.models.get_model_weights(name)
    return {member.name: member for member in enum} | {"DEFAULT": enum.DEFAULT}


def download(name: str, weights: str) -> dict[str, Tensor]:
    """State dict of the torchvision enum member `weights`, downloaded by torchvision if needed.

    Raises:
        UserError: there is no such member, or the download failed.
    """
    members = published(name)
    if weights not in members:
        raise UserError(
            f"model.weights={weights} is neither a file nor weights of torchvision:{name}. "
            f"Legal: a local file, {', '.join(members)}."
        )
    return _download(members[weights])


def _construct(name: str, num_classes: int, image_size: int, args: dict[str, Any]) -> nn.Module:
    import torchvision

    model: nn.Module = torchvision.models.get_model(name, **constructor_arguments(name, num_classes, image_size, args))
    return model


def constructor_arguments(name: str, num_classes: int, image_size: int, args: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `torchvision.models.get_model` for a network: the user's, and those that are set here."""
    fixed: dict[str, Any] = {}
    parameters = inspect.signature(_network_class(name)).parameters
    if "image_size" in parameters:
        fixed["image_size"] = image_size
    if "input_size" in parameters:
        fixed["input_size"] = (image_size, image_size)
    if "aux_logits" in parameters:
        fixed |= {"aux_logits": False, "transform_input": True, "init_weights": True}
    return {"weights": None, "num_classes": num_classes, **fixed, **args}


def _refusal(name: str, num_classes: int, image_size: int, args: dict[str, Any]) -> str | None:
    """Why the network cannot be built or cannot take the images; None if it can. Allocates no weights."""
    try:
        with torch.random.fork_rng(devices=[]), EmptyOnMeta():
            model = _construct(name, num_classes, image_size, args)
        forward_on_meta(model, image_size)
    except REFUSALS as error:
        return describe_refusal(error)
    return None


def _explained(refusal: str, name: str, num_classes: int, image_size: int, args: dict[str, Any]) -> UserError:
    """The error for a refusal. The image size is the cause if the network takes a larger one."""

    def works(size: int) -> bool:
        return _refusal(name, num_classes, size, args) is None

    above = next(filter(works, range(image_size + 1, LARGEST_SIZE_TRIED + 1)), None)
    if above is None:
        return UserError(
            f"torchvision:{name} cannot be built with model.args={args}: {refusal}. "
            f"{describe_arguments(f'torchvision:{name}', legal_arguments(name))}"
        )
    # A transformer needs a multiple of its patch size; any other network needs enough pixels.
    needs_multiple = not {"image_size", "input_size"}.isdisjoint(inspect.signature(_network_class(name)).parameters)
    below = next(filter(works, range(image_size - 1, 7, -1)), None) if needs_multiple else None
    if below is not None:
        nearest = f"Nearest legal sizes: {below} and {above}."
    else:
        nearest = f"{'Next' if needs_multiple else 'Smallest'} legal size: {above}."
    return UserError(f"data.image_size={image_size} does not suit torchvision:{name} ({refusal}). {nearest}")


def legal_arguments(name: str) -> dict[str, Any]:
    """What a user may set: the constructor's arguments that have a default and are not set here."""
    defaults = argument_defaults(_network_class(name))
    return {
        key: value for key, value in defaults.items() if key not in _SET_HERE and value is not inspect.Parameter.empty
    }


def _network_class(name: str) -> Callable[..., nn.Module]:
    import torchvision

    builder = torchvision.models.get_model_builder(name)
    network: Callable[..., nn.Module] = typing.get_type_hints(builder)["return"]
    return network


def _download(member: Any) -> dict[str, Tensor]:
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(member.url).name
    try:
        state: dict[str, Tensor] = member.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"downloading the weights {member} failed: {error}. Download {member.url} on a machine with internet "
            f"access and copy it to {file}, or type model.weights=FILE."
        ) from error
    return state


def as_torchvision_loads_them(name: str, state: dict[str, Tensor], image_size: int) -> dict[str, Tensor]:
    """A published state dict after the changes that torchvision's loaders make: heads, names and sizes."""
    if name in ("googlenet", "inception_v3"):
        state = {key: value for key, value in state.items() if not key.startswith(("aux1.", "aux2.", "AuxLogits."))}
    if name.startswith("densenet"):  # denselayer1.norm.1.weight → denselayer1.norm1.weight
        pattern = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")
        state = {pattern.sub(r"\1\2.", key): value for key, value in state.items()}
    if name.startswith("vit_") and "encoder.pos_embedding" in state:
        from torchvision.models.vision_transformer import interpolate_embeddings

        patch_size = int(name.rpartition("_")[2])
        state = dict(interpolate_embeddings(image_size, patch_size, dict(state)))
    return state
