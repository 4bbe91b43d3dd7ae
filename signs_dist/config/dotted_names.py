"""Names of the user's own code: `package.module:make`, and the settings that take them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

_WORD = r"[^\W\d]\w*"
DOTTED_PATTERN = rf"^{_WORD}(\.{_WORD})*[.:]{_WORD}$"

DottedName = Annotated[str, Field(pattern=DOTTED_PATTERN)]
"""The type of a setting that names a function or a class of the user's own."""


def is_dotted(name: str) -> bool:
    """Whether `name` has the form `package.module:make` or `package.module.make`."""
    module, attribute = split_dotted(name)
    return all(part.isidentifier() for part in module.split(".")) and attribute.isidentifier()


def module_of(name: str) -> str:
    """The module in `package.module:make`."""
    return split_dotted(name)[0]


def split_dotted(name: str) -> tuple[str, str]:
    """`package.module:make` or `package.module.make` as module and function or class."""
    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    return module, attribute


def _require_distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    last = [split_dotted(name)[1] for name in names]
    if twice := next((name for name in last if last.count(name) > 1), None):
        raise ValueError(
            f"evaluate.metrics has two metrics called {twice}, by which results name them. Rename one of the functions."
        )
    return names


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


DottedNames = Annotated[
    tuple[DottedName, ...], Field(strict=False), BeforeValidator(_listed), AfterValidator(_require_distinct)
]
"""The type of evaluate.metrics."""
