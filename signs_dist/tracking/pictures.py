"""The pictures of a run for dashboards: the confusion matrix, and the worst mistakes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from signs_dist.results.predictions import predictions_path, read_predictions


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures of what one epoch's weights predict.

    Attributes:
        epoch: of the weights, from 1.
        step: number of steps of these weights.
        named: name → PNG.
    """

    epoch: int
    step: int
    named: Mapping[str, bytes]


def pictures_of(run_path: Path) -> Pictures | None:
    """The pictures for the newest predictions of a run; None where there are none."""
    read = read_predictions(predictions_path(run_path, "val"))
    if read is None or not read[1]:
        return None
    header = read[0]
    return Pictures(header.epoch, header.step, {})
