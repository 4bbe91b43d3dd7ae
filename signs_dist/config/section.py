"""What all sections of the config share: the base class, the kinds of numbers, and flattening a config."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Triple = Annotated[tuple[Finite, Finite, Finite], Field(strict=False)]
Pair = Annotated[tuple[float, float], Field(strict=False)]


class Section(BaseModel):
    """A part of the config. It is frozen, refuses unknown keys, and converts nothing (`"3"` is not 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


def section_of(annotation: Any) -> type[Section] | None:
    """The section class that a field's annotation names, or None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return None


def summary_of(section: type[Section]) -> str:
    """The first line of a section's docstring."""
    return (section.__doc__ or "").partition("\n")[0]


def flatten(config: Section, prefix: str = "") -> list[tuple[str, Any]]:
    """The (dotted key, value) pairs of a config's settings in the schema's order."""
    rows: list[tuple[str, Any]] = []
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Section):
            rows += flatten(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value))
    return rows
