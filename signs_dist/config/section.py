"""What all sections of the config share: the base class, the kinds of numbers, and flattening a config."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

LARGEST = 1e12
"""Of numbers without a unit. Their products stay far below the largest float32."""
YEAR_SECONDS = 365 * 86_400
WEEK_SECONDS = 7 * 86_400
"""Of waits: the system takes their milliseconds as 32-bit numbers."""

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
Rate = Annotated[float, Field(gt=0, le=1e30)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Pixel = Annotated[float, Field(ge=-1000, le=1000)]
Deviation = Annotated[float, Field(ge=0.00001, le=1000)]
Seconds = Annotated[float, Field(gt=0, le=YEAR_SECONDS)]
WaitSeconds = Annotated[float, Field(gt=0, le=WEEK_SECONDS)]
Triple = Annotated[tuple[Pixel, Pixel, Pixel], Field(strict=False)]
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
