"""Find and call the user's own code, which a setting names as `package.module:make`.

Networks, losses, optimizers, schedules, augmentations, metrics and readers of images all come through here, so that
what is wrong is said in the same words.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from signs_dist.config.dotted_names import split_dotted
from signs_dist.errors import UserError
from signs_dist.monitoring.diagnosis import find_place

Function = Callable[..., Any]


class MissingModuleError(UserError):
    """The module that a setting names is neither in the current folder nor installed."""


def find_own(setting: str, name: str, *, kind: type | None = None, kind_name: str = "functions or classes") -> Function:
    """The function or class that the setting names.

    Args:
        setting: such as `loss.name`, for messages.
        name: `package.module:make`.
        kind: subclasses of it in the module are named where `make` is missing; None: all functions and classes.
        kind_name: how messages call them, in the plural.

    Raises:
        UserError: there is no such module, importing it fails, or it has nothing callable of this name.
    """
    module_name, attribute = split_dotted(name)
    # `python -m` finds modules in the current folder; a console script does not.
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(f"{setting}={name}: importing {module_name} failed: {error}.") from error
        raise MissingModuleError(
            f"{setting}={name}: there is no module {error.name}. Looked in the current folder and in the installed "
            f"packages; the form is package.module:{'Class' if kind is not None else 'make'}."
        ) from error
    except SystemExit as error:  # else the run would end with that exit code, without a message
        raise UserError(
            f"{setting}={name}: importing {module_name} calls sys.exit. Put the code of the script below "
            f'`if __name__ == "__main__":`.'
        ) from error
    except UserError:
        raise
    except (ImportError, SyntaxError) as error:
        raise UserError(f"{setting}={name}: importing {module_name} failed: {error}.") from error
    except Exception as error:
        raise UserError(f"{setting}={name}: importing {module_name} failed: {_told(error)}") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if _is_of(module_name, value, kind)]
        legal = f"It has {', '.join(names)}." if names else f"It has no {kind_name}."
        if (near := _nearest(attribute, vars(module))) and near not in names:
            legal = f"Did you mean {near}?"
        what = "class" if kind is not None else "function or class"
        raise UserError(f"{setting}={name}: {module_name} has no {what} {attribute}. {legal}")
    own: Function = found
    return own


def call_own(
    setting: str,
    name: str,
    function: Function,
    *,
    given: Mapping[str, Any],
    args: Mapping[str, Any],
    args_setting: str,
    positional: tuple[Any, ...] = (),
    optional: Mapping[str, Any] | None = None,
    told_as: str = "",
) -> Any:
    """Call `function(*positional, **given, **args)`, after a look at its signature.

    Args:
        setting: such as `loss.name`.
        name: its value.
        function: from `find_own`.
        given: what the toolkit always gives, by name.
        args: what the user gives in the config.
        args_setting: the setting that holds `args`, such as `loss.args`.
        positional: what the toolkit gives without a name.
        optional: what the toolkit gives if the function has a parameter of that name.
        told_as: how a message about a failure tells the call, such as `is built with num_classes=6`.

    Raises:
        UserError: the function takes other arguments, fails, or calls sys.exit.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        parameters = None  # some functions of C have no signature; the call shows what they take
    extra: dict[str, Any] = {}
    if parameters is not None:
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        for key in given:
            if key not in parameters and not takes_any:
                raise UserError(f"{setting}={name} takes no argument {key}. Add it to its definition.")
        extra = {key: value for key, value in (optional or {}).items() if key in parameters and key not in args}
        legal = own_arguments(function, reserved=(*given, *extra), num_positional=len(positional))
        for key in args:
            if key in given or key in extra:
                raise UserError(f"{args_setting}.{key} is given by the run itself. Delete it.")
        if not takes_any:
            check_argument_names(args_setting, name, args, legal)
        missing = [key for key, default in legal.items() if default is inspect.Parameter.empty and key not in args]
        if missing:
            raise UserError(f"{args_setting}.{missing[0]} is missing. {describe_arguments(name, legal)}")
    with failures_told(f"{setting}={name}", told_as or "is called"):
        return function(*positional, **given, **extra, **args)


def own_arguments(function: Function, *, reserved: tuple[str, ...] = (), num_positional: int = 0) -> dict[str, Any]:
    """The keyword arguments that a user may give, with their defaults (`Parameter.empty`: none)."""
    parameters = list(inspect.signature(function).parameters.values())[num_positional:]
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.name not in ("self", *reserved)
        and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def check_argument_names(args_setting: str, name: str, args: Mapping[str, Any], legal: Mapping[str, Any]) -> None:
    """Raise `UserError` if `args`, the value of `args_setting`, has a name that is not in `legal`."""
    for key in args:
        if key not in legal:
            raise UserError(f"{args_setting}.{key} is not an argument of {name}. {describe_arguments(name, legal)}")


def describe_arguments(name: str, legal: Mapping[str, Any]) -> str:
    """One sentence that lists the arguments of a function or class."""
    if not legal:
        return f"{name} takes no arguments."
    shown = [key if default is inspect.Parameter.empty else f"{key}={default!r}" for key, default in legal.items()]
    return f"{name} takes {', '.join(shown)}."


@contextlib.contextmanager
def failures_told(what: str, when: str) -> Iterator[None]:
    """Within the block, an exception of the user's code becomes a `UserError` with its kind, its text and its place.

    Args:
        what: what is called, such as `loss.name=my.losses:focal`.
        when: the end of `fails when it …`.
    """
    try:
        yield
    except SystemExit as error:
        raise UserError(f"{what} calls sys.exit when it {when}. Remove the call.") from error
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which this room does not import
            raise
        # A `**arguments` in the signature may pass an argument to a function that does not take it.
        if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
            raise UserError(f"{what} refuses an argument: {error}.") from error
        raise UserError(f"{what} fails when it {when}: {_told(error)}") from error


def _nearest(attribute: str, members: Mapping[str, Any]) -> str:
    """The function or class of a module with nearly this name, also one that it imports, as torch.optim does."""
    by_lower = {key.lower(): key for key, value in members.items() if callable(value) and not key.startswith("_")}
    return next((by_lower[key] for key in difflib.get_close_matches(attribute.lower(), by_lower, n=1, cutoff=0.8)), "")


def _told(error: Exception) -> str:
    place = find_place(error)
    return f"{type(error).__name__}: {error}{f' at {place}' if place else ''}"


def _is_of(module_name: str, value: Any, kind: type | None) -> bool:
    if getattr(value, "__module__", None) != module_name:
        return False
    return isinstance(value, type) and issubclass(value, kind) if kind is not None else callable(value)
