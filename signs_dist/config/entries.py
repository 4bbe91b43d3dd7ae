"""What is wrong with the entries of settings that are lists of mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from signs_dist.config.section import LARGEST


def fault_of_group(entry: Mapping[str, Any]) -> str:
    """What is wrong with an entry of optim.groups, as the end of a sentence; "" if nothing is."""
    if unknown := [name for name in entry if name not in ("match", "lr", "weight_decay")]:
        return f"has the unknown key {unknown[0]}"
    if not isinstance(entry.get("match"), str) or not entry["match"]:
        return "has no match, a pattern of parameter names"
    if len(entry) == 1:
        return "sets nothing"
    for name, value in entry.items():
        is_number = type(value) in (int, float) and 0 <= value <= LARGEST
        if name != "match" and not (is_number and (value > 0 or name == "weight_decay")):
            return f"has {name}={value!r}, and it must be a number {'above 0' if name == 'lr' else 'of at least 0'}"
    return ""
