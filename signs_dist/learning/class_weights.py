"""The weight of each class in the training loss."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from signs_dist.errors import UserError

MOST_NAMED = 10
"""Classes that a message names at most."""

Given = str | Sequence[float] | Mapping[str, float] | None
"""`loss.class_weights`: balanced, a weight for each class in order, class → weight, or None."""


def find_class_weights(given: Given, counts: Mapping[str, int]) -> tuple[float, ...] | None:
    """The weight of each class in the order of its label; None where all images weigh the same.

    balanced: N / (C · n) for a class with n of the N training images, C the number of classes that have any, as
    scikit-learn's `class_weight="balanced"`. The mean weight over the training images is 1.

    Args:
        given: `loss.class_weights`. A class that a mapping does not name has weight 1.
        counts: class → number of its training images, in the order of the labels.

    Raises:
        UserError: another number of weights than classes, an unknown class, or nothing but zeros.
    """
    if given is None:
        return None
    if given == "balanced":
        return _balanced(list(counts.values()))
    assert not isinstance(given, str)
    weights = _by_name(given, counts) if isinstance(given, Mapping) else tuple(given)
    if len(weights) != len(counts):
        raise UserError(
            f"loss.class_weights has {_counted(len(weights), 'weight')}, and the data has "
            f"{_counted(len(counts), 'class')}: {_named(counts)}. Give a weight for each, in this order; or balanced; "
            f"or a mapping such as {{{next(iter(counts))}: 2.0}}."
        )
    if not any(weight > 0 for weight, count in zip(weights, counts.values(), strict=True) if count):
        raise UserError(
            "loss.class_weights gives weight 0 to every training image, so that nothing would be learned. Give at "
            "least one class a weight above 0."
        )
    return weights


def _balanced(counts: Sequence[int]) -> tuple[float, ...]:
    num_present = sum(count > 0 for count in counts)
    total = sum(counts)
    # The weight of a class without training images is never used.
    return tuple(total / (num_present * count) if count else 1.0 for count in counts)


def _by_name(given: Mapping[str, float], counts: Mapping[str, int]) -> tuple[float, ...]:
    for name in given:
        if name not in counts:
            near = difflib.get_close_matches(name, list(counts), n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UserError(
                f"loss.class_weights: {name} is not a class of the data.{hint} Its classes: {_named(counts)}."
            )
    return tuple(given.get(name, 1.0) for name in counts)


def _named(classes: Mapping[str, int]) -> str:
    names = list(classes)
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _counted(number: int, noun: str) -> str:
    plural = f"{noun}{'es' if noun == 'class' else 's'}"
    return f"{number:,} {noun if number == 1 else plural}"
