"""Names of the user's own code: `package.module:make`, and the settings that take them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from signs_dist.config.section import Section

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


class OwnCodeSection(Section):
    """A section with a setting that may name code of the user's own, and with `args`, its arguments."""

    OWN: ClassVar[tuple[str, str]]
    """The section, and the setting."""
    BUILT_IN: ClassVar[tuple[str, ...]] = ()
    """Settings that only the built-in code reads, which are refused for the user's own."""

    @model_validator(mode="after")
    def _args_are_for_own_code(self) -> OwnCodeSection:
        section, key = self.OWN
        name, args = getattr(self, key), getattr(self, "args", {})
        if args and not is_dotted(name):
            raise ValueError(
                f"{section}.args is not read by {section}.{key}={name}; it is for your own, as package.module:make. "
                f"Delete {section}.args."
            )
        fields = type(self).model_fields
        given = [field for field in self.BUILT_IN if getattr(self, field) != fields[field].default]
        if given and is_dotted(name):
            raise ValueError(
                f"{section}.{given[0]} is not read by {section}.{key}={name}. Delete it: {section}.args holds the "
                f"arguments of your own code."
            )
        return self
