"""The probabilities of each image that a file of predictions holds, from the logits of an evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from signs_dist.results.predictions import MOST_CLASSES_IN_FULL, NUM_KEPT, Probabilities

ROWS_AT_ONCE = 1024
"""Images whose numbers become Python's numbers at once, which take eight times the memory."""


@dataclasses.dataclass(frozen=True)
class ProbabilityTable:
    """The probabilities of some images, on the host; the images are in the order of their split.

    Attributes:
        values: float32 [N, K]. K is the number of classes, or with many classes the number of those that are kept.
        numbers: int32 [N, K], the class of each value; None where column c is class c.
    """

    values: npt.NDArray[np.float32]
    numbers: npt.NDArray[np.int32] | None = None

    @classmethod
    def joined(cls, tables: Sequence[ProbabilityTable]) -> ProbabilityTable:
        """The images of all tables, one after the other."""
        numbers = [table.numbers for table in tables if table.numbers is not None]
        return cls(np.concatenate([table.values for table in tables]), np.concatenate(numbers) if numbers else None)

    def rows(self) -> Iterator[Probabilities]:
        """The probabilities of each image: those of all classes, or class → probability."""
        for start in range(0, len(self.values), ROWS_AT_ONCE):
            values = self.values[start : start + ROWS_AT_ONCE].tolist()
            if self.numbers is None:
                yield from values
            else:
                numbers = self.numbers[start : start + ROWS_AT_ONCE].tolist()
                yield from (dict(zip(*pair, strict=True)) for pair in zip(numbers, values, strict=True))


class KeptProbabilities:
    """Collects the probabilities of an evaluation, on the device of its batches, so that adding never waits for it.

    They are the softmax of the logits, as those of `predict`, whatever the loss: also for bce, which trains a sigmoid
    for each class, so that the probabilities of an image sum to 1 and compare between runs.

    With more than `MOST_CLASSES_IN_FULL` classes an image keeps its `NUM_KEPT` most probable classes and its own: at 12
    bytes each, 50,000 images of any number of classes take 7 MB.

    Args:
        num_classes: C.
        keeps_all: whether `in_full` is called: then all probabilities are kept, whatever the number of classes.
    """

    def __init__(self, num_classes: int, *, keeps_all: bool = False) -> None:
        self._is_full = num_classes <= MOST_CLASSES_IN_FULL
        self._all: list[Tensor] | None = [] if keeps_all else None
        self._num_classes = num_classes
        self._num_kept = num_classes if self._is_full else NUM_KEPT + 1
        self._values: list[Tensor] = []
        self._numbers: list[Tensor] = []

    @torch.inference_mode()
    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits floating [B, C], labels int64 [B]."""
        probabilities = logits.float().softmax(dim=1)  # [B, C]
        if self._all is not None:
            self._all.append(probabilities)
        if self._is_full:
            self._values.append(probabilities)
            return
        own = labels[:, None]  # [B, 1]
        values, numbers = probabilities.topk(NUM_KEPT, dim=1)  # [B, NUM_KEPT] each
        self._values.append(torch.cat([values, probabilities.gather(1, own)], dim=1))
        self._numbers.append(torch.cat([numbers, own], dim=1).to(torch.int32))

    def in_full(self) -> npt.NDArray[np.float32]:
        """The probabilities of all classes on the host, float32 [N, C], in the order in which they were added."""
        assert self._all is not None
        return torch.cat(self._all).cpu().numpy() if self._all else np.zeros((0, self._num_classes), np.float32)

    def table(self) -> ProbabilityTable:
        """The probabilities on the host, in the order in which they were added. Waits for the device."""
        values = torch.cat(self._values).cpu().numpy() if self._values else np.zeros((0, self._num_kept), np.float32)
        if self._is_full:
            return ProbabilityTable(values)
        numbers = torch.cat(self._numbers).cpu().numpy() if self._numbers else np.zeros(values.shape, np.int32)
        return ProbabilityTable(values, numbers)
