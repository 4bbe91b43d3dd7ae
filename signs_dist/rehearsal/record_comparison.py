"""Comparing recorded runs: a row for each number of processes, the table, and the verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from signs_dist.rehearsal.rounding import CONTROL_FACTOR, LOSS_BOUND, NUDGE, loss_differences

if TYPE_CHECKING:
    from signs_dist.rehearsal.records import Record


@dataclasses.dataclass(frozen=True)
class Row:
    """The run on one number of processes, compared with the first run.

    Attributes:
        world_size: number of processes.
        order, augmentation: whether samples and images are equal.
        loss_difference: largest relative difference of a step's loss.
        weights_difference: largest difference of a weight over the largest weight.
        weights_sha256: of the final weights.
        is_equal: the verdict. In exact mode all is equal; in fast mode each loss is within its bound.
    """

    world_size: int
    order: bool
    augmentation: bool
    loss_difference: float
    weights_difference: float
    weights_sha256: str
    is_equal: bool


def compare_records(first: Record, other: Record, bounds: Sequence[float] | None) -> Row:
    """Compare two records of one config.

    Args:
        first, other: the records.
        bounds: the largest difference of each step's loss; None in exact mode, where there is no difference.
    """
    differences = loss_differences(first, other)
    order, augmentation = first.samples == other.samples, first.images == other.images
    if bounds is None:
        is_close = not any(differences) and first.weights_sha256 == other.weights_sha256
    else:
        is_close = all(difference <= bound for difference, bound in zip(differences, bounds, strict=True))
    return Row(
        other.world_size,
        order,
        augmentation,
        loss_difference=max(differences),
        weights_difference=_weights_difference(first, other),
        weights_sha256=other.weights_sha256,
        is_equal=order and augmentation and is_close,
    )


def describe_rows(rows: Sequence[Row], first: Record, bounds: Sequence[float] | None) -> str:
    """The table and the verdict."""
    lines = [f"{'processes':>9}  {'order':>9}  {'augmented':>9}  {'loss':>11}  {'weights':>11}  weights_sha256"]
    lines += [_describe_row(row, first) for row in rows]
    if bounds is not None:
        lines.append(
            f"loss: largest relative difference of a step; weights: largest difference over the largest weight.\n"
            f"Bound of the loss: {bounds[0]:.0e} at step 1 to {bounds[-1]:.0e} at step {len(bounds)}: "
            f"{CONTROL_FACTOR} times what weights changed by {NUDGE:g} lead to, and at least "
            f"{LOSS_BOUND[first.precision]:g}. With exact=true there is no difference to bound."
        )
    verdict = "PASS" if all(row.is_equal for row in rows) else "FAIL"
    mode = "exact" if bounds is None else "fast"
    return "\n".join([*lines, f"{verdict}: {len(first.losses)} steps, {mode} mode, {first.precision}"])


def _describe_row(row: Row, first: Record) -> str:
    order, augmentation = ("equal" if is_equal else "DIFFERENT" for is_equal in (row.order, row.augmentation))
    loss = "equal bits" if row.loss_difference == 0 else f"{row.loss_difference:.1e}"
    weights = "equal bits" if row.weights_sha256 == first.weights_sha256 else f"{row.weights_difference:.1e}"
    return (
        f"{row.world_size:>9}  {order:>9}  {augmentation:>9}  {loss:>11}  {weights:>11}  "
        f"{row.weights_sha256[:16]}{'' if row.is_equal else '  <- differs'}"
    )


def _weights_difference(first: Record, other: Record) -> float:
    """The largest difference of a weight over the largest weight."""
    pairs = [
        (tensor.double(), other.weights[name].double()) for name, tensor in first.weights.items() if tensor.numel()
    ]
    largest = max(float(one.abs().max()) for one, _ in pairs)
    return max(float((one - another).abs().max()) for one, another in pairs) / largest
