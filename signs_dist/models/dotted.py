"""Build the user's own network, given by the path of its class."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from signs_dist.errors import UserError
from signs_dist.models.registry import argument_defaults, check_argument_names, describe_arguments
from signs_dist.monitoring.diagnosis import find_place


def is_dotted(name: str) -> bool:
    """Whether `name` has the form `package.module:Class` or `package.module.Class`."""
    module, attribute = _split(name)
    return all(part.isidentifier() for part in module.split(".")) and attribute.isidentifier()


def module_of(name: str) -> str:
    """The module in `package.module:Class`."""
    return _split(name)[0]


def build_dotted(name: str, *, num_classes: int, image_size: int, args: dict[str, Any]) -> nn.Module:
    """Call the class or function at `name` with `num_classes`, `args`, and `image_size` if it takes it.

    Raises:
        UserError: it cannot be found or imported, does not take the arguments, or does not give an nn.Module.
    """
    builder = _find(name)
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
    legal = argument_defaults(builder)
    if not takes_any:
        check_argument_names(name, args, legal)
    missing = [key for key, default in legal.items() if default is inspect.Parameter.empty and key not in args]
    if missing:
        raise UserError(f"model.args.{missing[0]} is missing. {describe_arguments(name, legal)}")
    sizes = {"image_size": image_size} if "image_size" in parameters else {}
    try:
        model = builder(num_classes=num_classes, **sizes, **args)
    except SystemExit as error:
        raise UserError(f"model.name={name} calls sys.exit when it is built. Remove the call.") from error
    except (UserError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        # A `**arguments` in the signature may pass an argument to a function that does not take it.
        if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
            raise UserError(f"model.name={name} refuses an argument: {error}.") from error
        place = find_place(error)
        raise UserError(
            f"model.name={name} fails when it is built with num_classes={num_classes}: {type(error).__name__}: "
            f"{error}{f' at {place}' if place else ''}"
        ) from error
    if not isinstance(model, nn.Module):
        raise UserError(f"model.name={name} returns a {type(model).__name__}, which is not a torch.nn.Module.")
    return model


def _find(name: str) -> Any:
    module_name, attribute = _split(name)
    # `python -m` finds modules in the current folder; a console script does not.
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(f"model.name={name}: importing {module_name} failed: {error}.") from error
        raise UserError(
            f"model.name={name}: there is no module {error.name}. Looked in the current folder and in the "
            f"installed packages; the form is package.module:Class."
        ) from error
    except SystemExit as error:  # else the run would end with that exit code, without a message
        raise UserError(
            f"model.name={name}: importing {module_name} calls sys.exit. Put the code of the script below "
            f'`if __name__ == "__main__":`.'
        ) from error
    except (ImportError, SyntaxError) as error:
        raise UserError(f"model.name={name}: importing {module_name} failed: {error}.") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        classes = [
            key
            for key, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module_name
        ]
        legal = f"It has {', '.join(classes)}." if classes else "It has no networks."
        raise UserError(f"model.name={name}: {module_name} has no class {attribute}. {legal}")
    return found


def _split(name: str) -> tuple[str, str]:
    """`package.module:Class` or `package.module.Class` as module and class."""
    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    return module, attribute
