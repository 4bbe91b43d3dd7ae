"""Whether a difference between runs is more than chance: over seeds, and over the images of one split."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

CONFIDENCE = 0.95
"""Of the intervals."""
_NORMAL = 1.959963984540054
"""The normal distribution's quantile for `CONFIDENCE`."""


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """Second minus first, over pairs such as two runs with the same seed.

    Attributes:
        mean: of the differences.
        low, high: 95 % confidence interval of the mean. None with fewer than two pairs, and where all differences are
            equal: their spread is unknown.
        p_value: probability of a mean at least this far from 0 if the true mean is 0; None where `low` is. 1 if all
            differences are 0.
    """

    mean: float
    low: float | None
    high: float | None
    p_value: float | None


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the sample standard deviation (divisor n - 1), which is None for a single value.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("mean_and_sd: there are no values")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """Student's paired t-test, two-sided (Student, The probable error of a mean, Biometrika 6, 1908).

    It supposes that the differences are about normally distributed. With three seeds, a test on ranks or signs could
    not give a p-value below 0.25.

    Args:
        first, second: a value for each pair, in the same order, as of seeds 0, 1, 2.

    Raises:
        ValueError: there are no pairs, or the numbers of values differ.
    """
    if len(first) != len(second):
        raise ValueError(f"paired_difference: {len(first)} values against {len(second)}")
    differences = [after - before for before, after in zip(first, second, strict=True)]
    mean, deviation = mean_and_sd(differences)
    # Equal differences of decimal numbers differ by rounding: 0.8 - 0.7 and 0.7 - 0.6.
    if deviation is None or deviation <= 1e-12 * max(map(abs, (*first, *second))):
        is_none = len(differences) > 1 and all(difference == 0 for difference in differences)
        return PairedDifference(mean, None, None, 1.0 if is_none else None)
    error, freedom = deviation / math.sqrt(len(differences)), len(differences) - 1
    half = t_quantile(CONFIDENCE, freedom) * error
    return PairedDifference(mean, mean - half, mean + half, 1 - t_within(abs(mean) / error, freedom))


def t_within(limit: float, freedom: int) -> float:
    """Probability that Student's t lies within ± `limit`, for whole `freedom` from 1.

    The finite sums of Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = math.atan2(limit, math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    is_odd = freedom % 2 == 1
    term, total = (cosine, 0.0) if is_odd else (1.0, 0.0)
    for number in range(1 if is_odd else 0, freedom - 1, 2):
        total += term
        term *= cosine * cosine * (number + 1) / (number + 2)
    return 2 / math.pi * (angle + sine * total) if is_odd else sine * total


def t_quantile(probability: float, freedom: int) -> float:
    """The limit for which `t_within` is `probability`, which is below 1."""
    return _solve(lambda limit: t_within(limit, freedom), probability)


def mcnemar(fixed: int, broke: int) -> float:
    """McNemar's exact test, two-sided: the p-value of a change in accuracy on the same images.

    If neither run were better, each image that only one of them classifies correctly would be the one's or the other's
    with equal probability, so `fixed` would be binomial (McNemar, Psychometrika 12, 1947).

    Args:
        fixed: number of images that only the second run classifies correctly.
        broke: number of images that only the first run classifies correctly.
    """
    total, fewer = fixed + broke, min(fixed, broke)
    if 2 * fewer >= total - 1:  # also without any: the two tails together are everything
        return 1.0
    # The largest term of the tail by its logarithm, and the others relative to it: no term overflows.
    share, tail = 1.0, 0.0
    for number in range(fewer, -1, -1):
        tail += share
        share *= number / (total - number + 1)
        if share < 1e-18 * tail:
            break
    logarithm = math.lgamma(total + 1) - math.lgamma(fewer + 1) - math.lgamma(total - fewer + 1)
    return min(1.0, 2 * tail * math.exp(logarithm - total * math.log(2)))


def accuracy_change(fixed: int, broke: int, num_images: int) -> tuple[float, float, float]:
    """The change in accuracy on the same images, and its 95 % confidence interval: (change, low, high), each -1..1.

    The interval adds half an image to each of the four counts (Agresti and Min, Statistics in Medicine 24, 2005), so
    that it stays right for few images, and where no image changed.

    Args:
        fixed: number of images that only the second run classifies correctly.
        broke: number of images that only the first run classifies correctly.
        num_images: of the split, at least 1.
    """
    enlarged = num_images + 2
    centre = (fixed - broke) / enlarged
    half = _NORMAL * math.sqrt(fixed + broke + 1 - (fixed - broke) ** 2 / enlarged) / enlarged
    return (fixed - broke) / num_images, max(-1.0, centre - half), min(1.0, centre + half)


def _solve(rising: Callable[[float], float], target: float) -> float:
    """Where a rising function that begins at 0 reaches a value, by bisection."""
    low, high = 0.0, 1.0
    while rising(high) < target:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return (low + high) / 2
