"""Whole numbers in environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping

from signs_dist.errors import UserError


def parse_number(text: str | None) -> int | None:
    """A whole number from an environment variable; None if it is not one or not set."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,9}", text) else None


def read_number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    """The whole number in an environment variable; `default` if it is not set.

    Raises:
        UserError: the variable is not a whole number.
        KeyError: it is not set and there is no default.
    """
    if default is not None and name not in environment:
        return default
    text = environment[name]
    number = parse_number(text)
    if number is None:
        raise UserError(f"the environment has {name}={text!r}, which is not a whole number. Type: unset {name}")
    return number
