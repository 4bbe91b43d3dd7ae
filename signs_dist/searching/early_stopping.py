"""Which trials are hopeless: the median rule and successive halving.

A stopped trial's learning-rate schedule spans all epochs, as if it were never stopped. So it can be taken up again.

A curve is epoch, from 1 → value. Rules compare the best value up to an epoch, over the trials that have reached it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence

from signs_dist.results.choices import describe_number
from signs_dist.results.sweeps import MEASURES

Curve = Mapping[int, float]
LEAST_OTHERS = 3
"""How many other trials must have reached an epoch before the median rule stops one there."""
WARM_UP = 0.1
"""The share of its epochs that the median rule leaves to each trial."""
RUNGS = (1 / 8, 1 / 4, 1 / 2)
"""The shares of the epochs after which halving keeps the better half."""


def why_hopeless(
    rule: str, own: Curve, others: Collection[Curve], num_epochs: int, measure: str
) -> tuple[int, str] | None:
    """The epoch by which a trial is hopeless, and why; None if it is not.

    Args:
        rule: none, median or halving.
        own: the trial's curve.
        others: of all other trials, running, stopped or finished.
        num_epochs: of the trial.
        measure: what the curves are of, one of `results.sweeps.MEASURES`.
    """
    if rule == "none" or not own:
        return None
    judge = _median if rule == "median" else _halving
    return judge(own, others, num_epochs, measure)


def _sign(measure: str) -> float:
    return -1.0 if MEASURES[measure] else 1.0


def _median(own: Curve, others: Collection[Curve], num_epochs: int, measure: str) -> tuple[int, str] | None:
    """Vizier's median stopping rule (Golovin et al., KDD 2017), on the best value instead of a running mean."""
    epoch, sign = max(own), _sign(measure)
    if epoch < math.ceil(WARM_UP * num_epochs) or epoch >= num_epochs:
        return None
    values = _values_at(others, epoch, sign)
    if len(values) < LEAST_OTHERS:
        return None
    middle, best = statistics.median(values), best_until(own, epoch, sign)
    if best >= middle:
        return None
    told, median = describe_number(measure, sign * best), describe_number(measure, sign * middle)
    return epoch, f"epoch {epoch}: {told} is worse than {median}, the median of {len(values)} other trials"


def _halving(own: Curve, others: Collection[Curve], num_epochs: int, measure: str) -> tuple[int, str] | None:
    """Asynchronous successive halving (Li et al., MLSys 2020) with factor 2: no trial waits for others at a rung."""
    reached = [rung for rung in rungs(num_epochs) if rung <= max(own)]
    if not reached or max(own) >= num_epochs:
        return None
    rung, sign = reached[-1], _sign(measure)
    # Its own newest epochs count as well: others may reach the rung later than it, and it may be better by then.
    best = best_until(own, max(own), sign)
    values = _values_at(others, rung, sign)
    num_better = sum(value > best for value in values)
    num_kept = math.ceil((len(values) + 1) / 2)
    if num_better < num_kept:
        return None
    told = describe_number(measure, sign * best)
    return rung, f"epoch {rung}: {told}, {num_better} of {len(values)} other trials are better"


def rungs(num_epochs: int) -> list[int]:
    """The epochs after which halving keeps the better half."""
    return sorted({max(1, math.ceil(share * num_epochs)) for share in RUNGS})


def best_until(curve: Curve, epoch: int, sign: float) -> float:
    """The largest of sign × value up to an epoch; minus infinity without one."""
    return max((sign * value for at, value in curve.items() if at <= epoch), default=-math.inf)


def _values_at(curves: Collection[Curve], epoch: int, sign: float) -> list[float]:
    return [best_until(curve, epoch, sign) for curve in curves if curve and max(curve) >= epoch]


def mean_curve(curves: Sequence[Curve], *, is_less_better: bool) -> dict[int, float]:
    """The curve of a trial: at each epoch the mean over its runs that have reached it, of the best value until then."""
    sign = -1.0 if is_less_better else 1.0
    epochs = sorted({epoch for curve in curves for epoch in curve})
    return {epoch: sign * statistics.fmean(_values_at(curves, epoch, sign)) for epoch in epochs}
