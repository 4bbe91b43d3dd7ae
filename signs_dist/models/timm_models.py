"""Every classifier of timm (the extra `timm`), with a head for the data's classes. No other file here builds one."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.extras import require_extra
from signs_dist.models.on_meta import REFUSALS, EmptyOnMeta, describe_refusal, forward_on_meta
from signs_dist.models.registry import argument_defaults, check_argument_names, describe_arguments

TIMM_PREFIX = "timm:"
DEFAULT = "DEFAULT"
"""The weights that timm itself takes for a network, by the name that torchvision uses."""
DROP_PATH = "drop_path_rate"
"""timm's argument for model.drop_path."""
NEAR_PIXELS = 64
"""How far from the given image size every size is tried; beyond, multiples of 32 up to LARGEST_SIZE_TRIED."""
LARGEST_SIZE_TRIED = 512

_SET_HERE = (
    *("num_classes", "img_size", "in_chans", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"),
    *("checkpoint_path", "cache_dir", "features_only", "scriptable", "exportable", "no_jit", "device", "dtype"),
)
"""Arguments of timm.create_model and of its networks that are no choice of a config."""


@functools.cache
def names() -> tuple[str, ...]:
    """Names of timm's classifiers, as `timm.list_models` gives them."""
    import timm

    return tuple(timm.list_models())


def require_timm(full_name: str) -> None:
    """Raise `UserError` if timm is not installed; `full_name` is `model.name`."""
    require_extra("timm", "timm", f"model.name={full_name}")


def build_timm(name: str, *, num_classes: int, image_size: int, args: Mapping[str, Any]) -> nn.Module:
    """Build timm's network `name`, freshly initialised, with `num_classes` logits.

    Networks that are made for one image size, such as vision transformers, are built for `image_size`.

    Raises:
        UserError: an argument that the network does not take, or an image size that it cannot take.
    """
    _check_arguments(name, args)
    if (refusal := _refusal(name, num_classes, image_size, args)) and not _cannot_be_tried(name):
        raise _explained(refusal, name, num_classes, image_size, args)
    try:
        return _construct(name, num_classes, image_size, args)
    except REFUSALS as error:
        raise _about_arguments(describe_refusal(error), name, args) from error


def published(name: str) -> dict[str, Any]:
    """The published weights of a network: the tag, or DEFAULT → timm's `PretrainedCfg` of it."""
    from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg

    found = {
        key.partition(".")[2] or "untagged": value
        for key, value in get_arch_pretrained_cfgs(name).items()
        if value.has_weights
    }
    default = get_pretrained_cfg(name)
    return found | ({DEFAULT: default} if default is not None and default.has_weights else {})


def download(name: str, weights: str, *, image_size: int, args: Mapping[str, Any]) -> dict[str, Tensor]:
    """State dict of the published weights with this tag, as timm downloads it and fits it to the image size.

    Raises:
        UserError: there is no such tag, or the download failed.
    """
    import timm

    members = published(name)
    if weights not in members:
        raise UserError(
            f"model.weights={weights} is neither a file nor weights of timm:{name}. "
            f"Legal: a local file{''.join(f', {each}' for each in members)}."
        )
    tag = members[weights].tag
    sizes: dict[str, Any] = {"img_size": image_size} if takes_image_size(name) else {}
    try:
        with torch.random.fork_rng(devices=[]), _without_network_if_there_is_none():
            model: nn.Module = timm.create_model(f"{name}.{tag}" if tag else name, pretrained=True, **sizes, **args)
    except Exception as error:  # Hugging Face's client, and the one below it, raise errors of their own
        raise UserError(_how_to_fetch(name, weights, members[weights], describe_refusal(error))) from error
    return model.state_dict()


@contextlib.contextmanager
def _without_network_if_there_is_none() -> Iterator[None]:
    """Within the block Hugging Face's client reads its cache only, if no name server knows its host.

    The client would ask six times for each of two files, with pauses: 46 s in all.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _is_host_known(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _is_host_known(address: str) -> bool:
    """Whether the name of an address can be looked up. True behind a proxy, which looks up names itself."""
    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(urllib.parse.urlsplit(address).hostname, None)
    except OSError:
        return False
    return True


def as_timm_loads_them(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict after the changes that timm makes to published files: older names, position tables of other sizes.

    What timm cannot change is returned as it is: the comparison with the network tells what does not fit.
    """
    module = inspect.getmodule(type(model))
    change: Callable[..., Any] | None = getattr(module, "checkpoint_filter_fn", None)
    if change is None:
        return state
    try:
        changed = change(dict(state), model)
    except (*REFUSALS, KeyError, AttributeError):
        return state
    is_whole = isinstance(changed, dict) and all(isinstance(tensor, Tensor) for tensor in changed.values())
    return changed if is_whole else state


def takes_image_size(name: str) -> bool:
    """Whether the network is built for one image size."""
    return "img_size" in _parameters(name)[0]


def legal_arguments(name: str) -> dict[str, Any]:
    """What a user may set, with defaults: the constructor's arguments that have a default and are not set here."""
    defaults = _parameters(name)[0]
    return {
        key: value for key, value in defaults.items() if key not in _SET_HERE and value is not inspect.Parameter.empty
    }


@functools.cache
def _parameters(name: str) -> tuple[dict[str, Any], bool]:
    """The arguments of a network's class with their defaults, and whether it passes any other argument on.

    A class that passes arguments on to its base class takes those of the base class as well.
    """
    found: dict[str, Any] = {}
    for kind in _network_class(name).__mro__:
        if kind is nn.Module:
            break
        if "__init__" not in vars(kind):
            continue
        found = argument_defaults(kind) | found
        if not any(each.kind is each.VAR_KEYWORD for each in inspect.signature(kind).parameters.values()):
            return found, False
    return found, True


def _check_arguments(name: str, args: Mapping[str, Any]) -> None:
    _, takes_any = _parameters(name)
    unknown = {key: value for key, value in args.items() if not takes_any or key in _SET_HERE}
    check_argument_names(f"{TIMM_PREFIX}{name}", unknown, legal_arguments(name))


def _construct(name: str, num_classes: int, image_size: int, args: Mapping[str, Any]) -> nn.Module:
    import timm

    sizes: dict[str, Any] = {"img_size": image_size} if takes_image_size(name) else {}
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, **sizes, **args)
    return model


@functools.cache
def _network_class(name: str) -> type[nn.Module]:
    import timm

    with torch.random.fork_rng(devices=[]), EmptyOnMeta():
        try:
            return type(timm.create_model(name))
        except REFUSALS:
            pass
    with torch.random.fork_rng(devices=[]):
        return type(timm.create_model(name))


@functools.cache
def _cannot_be_tried(name: str) -> bool:
    """Whether a network cannot even be tried at the size that it was made for: then a refusal says nothing."""
    return _refusal(name, 10, _own_size(name), {}) is not None


def _own_size(name: str) -> int:
    """The image size that a network was made for."""
    from timm.models import get_pretrained_cfg

    about = get_pretrained_cfg(name)
    return about.input_size[-1] if about is not None else 224


def _refusal(name: str, num_classes: int, image_size: int, args: Mapping[str, Any]) -> str | None:
    """Why the network cannot be built or cannot take the images; None if it can. Allocates no weights."""
    try:
        with torch.random.fork_rng(devices=[]), EmptyOnMeta():
            model = _construct(name, num_classes, image_size, args)
        patch = patch_size(model)
        if image_size % patch:
            return f"it cuts images into patches of {patch} pixels"
        forward_on_meta(model, image_size)
    except REFUSALS as error:
        return describe_refusal(error)
    return None


def patch_size(model: nn.Module) -> int:
    """Side in pixels of the patches that the network cuts images into; 1 for other networks."""
    size = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
    size = size[0] if isinstance(size, (tuple, list)) and size else size
    return size if isinstance(size, int) and size > 0 else 1


def _explained(refusal: str, name: str, num_classes: int, image_size: int, args: Mapping[str, Any]) -> UserError:
    """The error for a refusal. The image size is the cause if the network takes another one."""

    def first_legal(sizes: Iterable[int]) -> int | None:
        return next((size for size in sizes if _refusal(name, num_classes, size, args) is None), None)

    if _refusal(name, num_classes, _own_size(name), args) is not None:
        return _about_arguments(refusal, name, args)
    near = range(image_size + 1, image_size + NEAR_PIXELS + 1)
    above = first_legal(itertools.chain(near, range(-(-near.stop // 32) * 32, LARGEST_SIZE_TRIED + 1, 32)))
    below = first_legal(range(image_size - 1, max(7, image_size - NEAR_PIXELS), -1)) if takes_image_size(name) else None
    if above is None and below is None:
        return _about_arguments(refusal, name, args)
    found = [str(size) for size in (below, above) if size is not None]
    nearest = f"Nearest legal sizes: {' and '.join(found)}." if len(found) > 1 else f"Nearest legal size: {found[0]}."
    return UserError(f"data.image_size={image_size} does not suit {TIMM_PREFIX}{name} ({refusal}). {nearest}")


def _about_arguments(refusal: str, name: str, args: Mapping[str, Any]) -> UserError:
    full_name = f"{TIMM_PREFIX}{name}"
    return UserError(
        f"{full_name} cannot be built with model.args={dict(args)}: {refusal}. "
        f"{describe_arguments(full_name, legal_arguments(name))}"
    )


def _how_to_fetch(name: str, weights: str, about: Any, reason: str) -> str:
    page = f"https://huggingface.co/{about.hf_hub_id}" if about.hf_hub_id else about.url
    file = f"the file {about.hf_hub_filename or 'model.safetensors'} of {page}" if about.hf_hub_id else page
    return (
        f"downloading the weights {weights} of timm:{name} failed: {reason}. Download {file} on a machine with "
        f"internet access, copy it here, and type model.weights=FILE."
    )
