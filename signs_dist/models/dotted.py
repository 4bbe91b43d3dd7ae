"""Build the user's own network, given by the path of its class."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from signs_dist.config.dotted_names import is_dotted as is_dotted  # re-exported
from signs_dist.config.dotted_names import module_of as module_of
from signs_dist.errors import UserError
from signs_dist.own_code import call_own, find_own


def build_dotted(name: str, *, num_classes: int, image_size: int, args: dict[str, Any]) -> nn.Module:
    """Call the class or function at `name` with `num_classes`, `args`, and `image_size` if it takes it.

    Raises:
        UserError: it cannot be found or imported, does not take the arguments, or does not give an nn.Module.
    """
    builder = find_own("model.name", name, kind=nn.Module, kind_name="networks")
    try:
        parameters = inspect.signature(builder).parameters
    except (TypeError, ValueError) as error:
        raise UserError(
            f"model.name={name} is no class or function of Python: {error}. Name a class of torch.nn.Module."
        ) from error
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if "num_classes" not in parameters and not takes_any:
        raise UserError(
            f"model.name={name} takes no argument num_classes. Add it: the network must return that "
            f"many logits ({num_classes} here)."
        )
    model = call_own(
        "model.name",
        name,
        builder,
        given={"num_classes": num_classes},
        optional={"image_size": image_size},
        args=args,
        args_setting="model.args",
        told_as=f"is built with num_classes={num_classes}",
    )
    if not isinstance(model, nn.Module):
        raise UserError(f"model.name={name} returns a {type(model).__name__}, which is not a torch.nn.Module.")
    return model
