"""Settings of where images lie and how they are divided: what they may be, apart from the section that holds them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from signs_dist.config.section import Section

DEFAULT_SHARES = (0.8, 0.1, 0.1)
"""Of train, val and test, where images are not split and `data.split` is not set."""


def require_shares(shares: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
    """Refuse shares of train, val and perhaps test that are no division. Raises ValueError."""
    given = f"data.{info.field_name}=[{', '.join(f'{share:g}' for share in shares)}]"
    legal = "Give the shares of train, val and test, such as [0.8, 0.1, 0.1], or of train and val, such as [0.8, 0.2]."
    if len(shares) not in (2, 3):
        raise ValueError(f"{given} has {len(shares)} number{'' if len(shares) == 1 else 's'}. {legal}")
    if abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"{given} sums to {sum(shares):g}, not to 1. {legal}")
    return shares


def require_pattern(pattern: str, info: ValidationInfo) -> str:
    """Refuse what is no regular expression with exactly one group. Raises ValueError."""
    given = f"data.{info.field_name}='{pattern}'"
    try:
        num_groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(
            f"{given} is not a regular expression: {error}. Backslashes stay whole between single quotes, for the "
            f"shell and for YAML."
        ) from None
    what = "label" if info.field_name == "label_pattern" else "group"
    if num_groups != 1:
        others = ", and write other parentheses as (?:…)" if num_groups else ""
        raise ValueError(
            f"{given} has {num_groups or 'no'} group{'s' if num_groups else ''}. Put the one part of the path that is "
            f"the {what} into parentheses, such as {_EXAMPLES[what]}{others}."
        )
    return pattern


_EXAMPLES = {"group": r"person(\d+)_", "label": r"([a-z]+)\.\d+"}

Text = Annotated[str, Field(min_length=1)]
Roots = Text | Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Shares = Annotated[tuple[Share, ...], Field(strict=False), AfterValidator(require_shares)]
Pattern = Annotated[str, AfterValidator(require_pattern)]


class ColumnsConfig(Section):
    """Columns of a table of images, where their usual names do not tell."""

    path: Text | None = None
    """Column with the images' paths. null: path, file, file_name, filename, image, image_path or a like name."""
    label: Text | None = None
    """Column with the classes. null: label, class, target, category or a like name."""
    split: str | None = None
    """Column with train, val or test. null: split, set, subset or a like name, if there is one. '': none of them."""
    group: Text | None = None
    """Column whose images with one value stay on one side of a division, such as patient_id. null: none."""
