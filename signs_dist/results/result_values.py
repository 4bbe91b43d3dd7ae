"""The values of result.json that can be shown: each of the type that training writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from signs_dist.run_folder.records import LARGEST_WHOLE

LARGEST = 1e100
"""Losses are of 32 bits, and so below 1e39; the square of a larger number than this may not fit a float."""


def usable_values(result: Mapping[str, Any]) -> dict[str, Any]:
    """The values of result.json without those of another type than training writes: an editor may have changed them.

    Keys that only a later release writes are kept as they are.
    """
    return {key: value for key, value in result.items() if _check_for(key)(value)}


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number that training can write: finite, and such that its square is too."""
    return type(value) in (int, float) and abs(value) <= LARGEST


def is_count(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number from 0."""
    return type(value) is int and 0 <= value < LARGEST_WHOLE


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def _is_interval(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_share, value))


def _is_confusion(value: Any) -> bool:
    """Whether a value is a square of counts."""
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == len(value) and all(map(is_count, row)) for row in value
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_sizes(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_count, value.values()))


def _are_changes(value: Any) -> bool:
    """Whether a value tells from which steps on a run has other bits."""
    return isinstance(value, list) and all(
        isinstance(each, dict) and is_count(each.get("step")) and _is_text(each.get("what")) for each in value
    )


_CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("finished", "stopped_early", "exact"), _is_flag),
    **dict.fromkeys(("data", "strategy", "device", "precision", "model", "weights_sha256", "best_by"), _is_text),
    **dict.fromkeys(("epochs", "epochs_trained", "steps", "seed", "world_size", "best_epoch"), is_count),
    **dict.fromkeys(("micro_batch", "num_parameters"), is_count),
    "images_per_second": is_number,
    "classes": _are_names,
    "split_sizes": _are_sizes,
    "weights": _is_mapping,
    "arithmetic_changes": _are_changes,
}
_CHECKS_BY_END: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("_accuracy", "_macro_f1"), _is_share),
    **dict.fromkeys(("_loss", "_seconds"), is_number),
    **dict.fromkeys(("_correct", "_images"), is_count),
    "_accuracy_interval": _is_interval,
    "_confusion": _is_confusion,
}


def _check_for(key: str) -> Callable[[Any], bool]:
    if key in _CHECKS:
        return _CHECKS[key]
    return next((check for end, check in _CHECKS_BY_END.items() if key.endswith(end)), lambda value: True)
