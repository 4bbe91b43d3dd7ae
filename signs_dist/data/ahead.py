"""Preparing several batches in a row on a CPU.

Between two training steps, code and tables of the augmentations leave the caches of the CPU: preparing one small batch
after a step takes several times as long as preparing it after another batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from signs_dist.data.batches import Batch

MOST_BATCHES = 8
"""How many batches are prepared in a row: more gain nothing."""
MOST_BYTES = 8 * 2**20
"""Batches are prepared in a row until their images take this many bytes: larger ones would leave the caches as well."""

Prepare = Callable[[Batch], tuple[Tensor, Tensor]]


class AsPrepared:
    """The preparer of batches that `prepared_in_a_row` made: it returns what they hold."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(images, targets) of the batch."""
        return batch.images, batch.labels


def prepared_in_a_row(batches: Iterator[tuple[Batch, float]], prepare: Prepare) -> Iterator[tuple[Batch, float]]:
    """The same batches with prepared images and, as labels, their targets; some are fetched and prepared before the
    first of them is given.

    An error of a batch is raised after the batches before it were given.

    Args:
        batches: each with the seconds spent waiting for it. The seconds of a whole row are given with its first batch.
        prepare: makes images and targets. What it makes of a batch must not depend on what was computed between.
    """
    row: list[Batch] = []
    num_bytes, waited_in_all = 0, 0.0
    is_last = False
    while not is_last:
        try:
            batch, waited = next(batches)
            images, targets = prepare(batch)
        except StopIteration:
            is_last = True
        except Exception:
            yield from _given(row, waited_in_all)
            raise
        else:
            row.append(batch._replace(images=images, labels=targets))
            num_bytes, waited_in_all = num_bytes + images.nbytes, waited_in_all + waited
        if is_last or len(row) == MOST_BATCHES or num_bytes >= MOST_BYTES:
            yield from _given(row, waited_in_all)
            row, num_bytes, waited_in_all = [], 0, 0.0


def _given(row: list[Batch], waited: float) -> Iterator[tuple[Batch, float]]:
    """The batches of a row, the first with the seconds of all."""
    for number, batch in enumerate(row):
        yield batch, waited if number == 0 else 0.0
