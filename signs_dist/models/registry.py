"""The project's own networks: a table from name to the function that builds one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError, validate_call
from torch import nn

from signs_dist import own_code
from signs_dist.errors import UserError
from signs_dist.own_code import describe_arguments as describe_arguments  # re-exported

Channels = Annotated[int, Field(ge=1, le=65_536)]
DropProbability = Annotated[float, Field(ge=0, lt=1)]


Builder = Callable[..., nn.Module]
"""Builds a network from `num_classes`, `image_size` (pixels) and its own keyword arguments."""

BUILDERS: dict[str, Builder] = {}
"""Legal values of `model.name`, besides torchvision's networks and dotted paths."""

BuilderType = TypeVar("BuilderType", bound=Builder)


def register(builder: BuilderType) -> BuilderType:
    """Make the network that `builder` builds available under the function's name.

    `builder` is called with `num_classes`, `image_size` and the user's `model.args`, which are checked against its
    annotations. It returns a network from images [B, 3, image_size, image_size] to logits [B, num_classes], whose
    last linear layer is its head.
    """
    name = builder.__name__
    assert name not in BUILDERS, name
    BUILDERS[name] = builder
    return builder


def build_registered(name: str, *, num_classes: int, image_size: int, args: dict[str, Any]) -> nn.Module:
    """Build the registered network `name`.

    Raises:
        UserError: an argument that it does not take, or of a wrong type or range.
    """
    builder = BUILDERS[name]
    check_argument_names(name, args, argument_defaults(builder))
    checked = validate_call(config={"strict": True})(builder)
    try:
        model: nn.Module = checked(num_classes=num_classes, image_size=image_size, **args)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"model.args.{key}={first['input']!r}: {first['msg'].lower()}. "
            f"{describe_arguments(name, argument_defaults(builder))}"
        ) from error
    return model


def argument_defaults(builder: Callable[..., Any]) -> dict[str, Any]:
    """The keyword arguments that a user may give to `builder`, with their defaults (`Parameter.empty`: none)."""
    parameters = inspect.signature(builder).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.name not in ("self", "num_classes", "image_size", "weights", "progress")
        and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def check_argument_names(name: str, args: dict[str, Any], legal: dict[str, Any]) -> None:
    """Raise `UserError` if `args` has a name that is not in `legal`."""
    own_code.check_argument_names("model.args", name, args, legal)
