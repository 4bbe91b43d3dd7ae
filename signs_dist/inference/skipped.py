"""Count the photos without a prediction, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Sequence

from signs_dist.data.problems import BadFile, bad_lines
from signs_dist.inference.predicting import Prediction

MOST_KEPT = 10_000
"""So many photos are kept, to be named; further ones are counted."""


class Skipped:
    """The photos without a prediction, among all.

    Attributes:
        num_photos: all photos.
        num_skipped: those without a prediction.
    """

    def __init__(self, most_kept: int = MOST_KEPT) -> None:
        self.num_photos = 0
        self.num_skipped = 0
        self._most_kept = most_kept
        self._kept: list[BadFile] = []

    def add(self, rows: Sequence[Prediction]) -> None:
        """Count the predictions of a batch."""
        bad = [BadFile(row["path"], row["error"]) for row in rows if "error" in row]
        self.num_photos += len(rows)
        self.num_skipped += len(bad)
        self._kept += bad[: self._most_kept - len(self._kept)]

    def lines(self) -> list[str]:
        """How many photos have no prediction, and why."""
        verb = "has" if self.num_skipped == 1 else "have"
        more = self.num_skipped - len(self._kept)
        return [
            f"{self.num_skipped:,} of {self.num_photos:,} photos {verb} no prediction:",
            *bad_lines(self._kept),
            *([f"  and {more:,} more"] if more else []),
        ]
