"""Which trials are hopeless."""

from __future__ import annotations

import pytest

from signs_dist.searching.early_stopping import mean_curve, rungs, why_hopeless


def flat(value: float, epochs: int = 20) -> dict[int, float]:
    return dict.fromkeys(range(1, epochs + 1), value)


@pytest.mark.parametrize(
    ("rule", "own", "others", "stopped"),
    [
        ("none", flat(0.1, 5), [flat(0.9)] * 5, None),
        ("median", {}, [flat(0.9)] * 5, None),
        ("median", flat(0.1, 5), [flat(0.9)] * 2, None),  # too few others
        ("median", flat(0.1, 1), [flat(0.9)] * 5, None),  # too early
        ("median", flat(0.1, 5), [flat(0.9, 4)] * 5, None),  # the others have not reached its epoch
        ("median", flat(0.1, 20), [flat(0.9)] * 5, None),  # done
        ("median", flat(0.5, 5), [flat(0.4), flat(0.5), flat(0.6)], None),
        ("median", flat(0.45, 5), [flat(0.4), flat(0.5), flat(0.6)], 5),
        ("halving", flat(0.1, 2), [flat(0.9)] * 3, None),  # before the first rung
        ("halving", flat(0.1, 3), [], None),
        ("halving", flat(0.1, 3), [flat(0.9)], 3),
        ("halving", flat(0.1, 4), [flat(0.9)], 3),
        ("halving", flat(0.1, 3), [flat(0.1)], None),  # equal ones stay
        ("halving", flat(0.5, 5), [flat(0.4), flat(0.9), flat(0.3)], None),
        ("halving", flat(0.35, 5), [flat(0.4), flat(0.9), flat(0.3)], 5),
        ("halving", flat(0.1, 3), [flat(0.9, 2)], None),
    ],
)
def test_the_rules(rule: str, own: dict[int, float], others: list[dict[int, float]], stopped: int | None) -> None:
    for is_less_better in (False, True):
        sign = -1 if is_less_better else 1
        curves = [{epoch: sign * value for epoch, value in curve.items()} for curve in (own, *others)]
        measure = "val_loss" if is_less_better else "val_accuracy"
        found = why_hopeless(rule, curves[0], curves[1:], 20, measure)
        assert (found and found[0]) == stopped


def test_the_best_value_until_an_epoch_counts() -> None:
    assert why_hopeless("halving", {1: 0.9, 3: 0.1}, [flat(0.8)], 20, "val_accuracy") is None
    assert why_hopeless("halving", {1: 0.1, 3: 0.1, 6: 0.9}, [flat(0.8)], 20, "val_accuracy") is None
    found = why_hopeless("median", {1: 0.5, 2: 0.4}, [flat(0.8)] * 3, 20, "val_accuracy")
    assert found == (2, "epoch 2: 50.0 % is worse than 80.0 %, the median of 3 other trials")
    found = why_hopeless("halving", {3: 2.5}, [flat(0.8), flat(0.7)], 20, "val_loss")
    assert found == (3, "epoch 3: 2.5000, 2 of 2 other trials are better")


def test_the_rungs() -> None:
    assert rungs(40) == [5, 10, 20]
    assert rungs(3) == [1, 2]
    assert rungs(1) == [1]


def test_the_curve_of_a_trial_is_the_mean_of_its_runs_that_are_so_far() -> None:
    assert mean_curve([{1: 0.5, 2: 0.4, 3: 0.9}, {1: 0.7}], is_less_better=False) == pytest.approx(
        {1: 0.6, 2: 0.5, 3: 0.9}
    )
    assert mean_curve([{1: 0.5, 2: 0.6}], is_less_better=True) == {1: 0.5, 2: 0.5}
    assert mean_curve([], is_less_better=True) == {}
