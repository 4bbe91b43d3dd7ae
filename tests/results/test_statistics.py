"""The expected values follow from the definitions, or are those of printed tables of Student's t."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from signs_dist.results.statistics import (
    PairedDifference,
    accuracy_change,
    mcnemar,
    mean_and_sd,
    paired_difference,
    t_quantile,
    t_within,
)


@pytest.mark.parametrize(
    ("values", "mean", "sd"),
    [([3.0], 3.0, None), ([1.0, 1.0], 1.0, 0.0), ([1.0, 2.0, 3.0], 2.0, 1.0), ([0.7, 0.8], 0.75, 0.0707106781)],
)
def test_mean_and_standard_deviation(values: Sequence[float], mean: float, sd: float | None) -> None:
    found = mean_and_sd(values)
    assert found[0] == pytest.approx(mean)
    assert found[1] == (None if sd is None else pytest.approx(sd))


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_and_sd([])
    with pytest.raises(ValueError, match="no values"):
        paired_difference([], [])
    with pytest.raises(ValueError, match="1 values against 2"):
        paired_difference([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [
        (1, 12.7062047),
        (2, 4.3026527),
        (3, 3.1824463),
        (4, 2.7764451),
        (9, 2.2621572),
        (30, 2.0422725),
        (999, 1.9623415),
    ],
)
def test_quantiles_are_those_of_the_printed_tables(freedom: int, quantile: float) -> None:
    assert t_quantile(0.95, freedom) == pytest.approx(quantile, rel=1e-7)
    assert t_within(quantile, freedom) == pytest.approx(0.95, rel=1e-7)


def test_a_paired_difference() -> None:
    # differences 0.05, 0.06, 0.10: mean 0.07, standard error 0.0152753, t 4.58258 with 2 degrees of freedom
    found = paired_difference([0.70, 0.72, 0.71], [0.75, 0.78, 0.81])
    error = math.sqrt((0.02**2 + 0.01**2 + 0.03**2) / 2 / 3)
    assert found.mean == pytest.approx(0.07)
    assert (found.low, found.high) == (pytest.approx(0.07 - 4.3026527 * error), pytest.approx(0.07 + 4.3026527 * error))
    assert found.p_value == pytest.approx(0.0444, abs=1e-4)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0.5], [0.75], PairedDifference(0.25, None, None, None)),
        ([0.5, 0.6], [0.5, 0.6], PairedDifference(0.0, None, None, 1.0)),
        ([0.5], [0.5], PairedDifference(0.0, None, None, None)),
        ([0.25, 0.5], [0.5, 0.75], PairedDifference(0.25, None, None, None)),
    ],
)
def test_without_a_spread_there_is_no_interval(
    first: Sequence[float], second: Sequence[float], expected: PairedDifference
) -> None:
    assert paired_difference(first, second) == expected


def test_rounding_is_no_spread() -> None:
    found = paired_difference([0.7, 0.6, 0.1], [0.8, 0.7, 0.2])
    assert (found.mean, found.p_value) == (pytest.approx(0.1), None)


def test_a_loss_mirrors_a_gain() -> None:
    gain = paired_difference([0.70, 0.72, 0.71], [0.75, 0.78, 0.81])
    loss = paired_difference([0.75, 0.78, 0.81], [0.70, 0.72, 0.71])
    assert loss.low is not None
    assert gain.high is not None
    assert (loss.mean, loss.low) == (pytest.approx(-gain.mean), pytest.approx(-gain.high))
    assert loss.p_value == pytest.approx(gain.p_value)


@pytest.mark.parametrize(
    ("fixed", "broke", "p_value"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 5, 1.0),
        (5, 6, 1.0),
        (2, 0, 0.5),
        (5, 0, 2 / 2**5),
        (0, 5, 2 / 2**5),
        (18, 6, 0.02265584468841553),
        (6, 18, 0.02265584468841553),
        (10, 3, 2 * (1 + 13 + 78 + 286) / 2**13),
    ],
)
def test_mcnemar(fixed: int, broke: int, p_value: float) -> None:
    assert mcnemar(fixed, broke) == pytest.approx(p_value, rel=1e-9)


def test_mcnemar_agrees_with_the_sum_of_binomials() -> None:
    for total in range(60):
        for fixed in range(total + 1):
            tail = sum(math.comb(total, number) for number in range(min(fixed, total - fixed) + 1))
            assert mcnemar(fixed, total - fixed) == pytest.approx(min(1.0, 2 * tail / 2**total), rel=1e-9)


def test_mcnemar_of_very_many_images() -> None:
    assert 0.0 <= mcnemar(600_000, 400_000) < 1e-300
    assert mcnemar(500_000, 500_500) == pytest.approx(0.6174, abs=1e-3)  # the normal approximation


@pytest.mark.parametrize(
    ("fixed", "broke", "num_images"), [(0, 0, 10), (18, 6, 180), (6, 18, 180), (3, 0, 3), (0, 3, 3), (1, 0, 1)]
)
def test_the_interval_of_a_change_holds_the_change(fixed: int, broke: int, num_images: int) -> None:
    change, low, high = accuracy_change(fixed, broke, num_images)
    assert change == pytest.approx((fixed - broke) / num_images)
    assert -1 <= low < high <= 1
    mirrored = accuracy_change(broke, fixed, num_images)
    assert mirrored == (pytest.approx(-change), pytest.approx(-high), pytest.approx(-low))


def test_the_interval_of_a_change() -> None:
    change, low, high = accuracy_change(18, 6, 180)
    half = 1.95996398 * math.sqrt(25 - 144 / 182) / 182
    assert (change, low, high) == (
        pytest.approx(12 / 180),
        pytest.approx(12 / 182 - half),
        pytest.approx(12 / 182 + half),
    )
