"""Where a sweep's trials come from: a list that is known beforehand, or a study that learns from their results."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable
from typing import Literal, Protocol

from signs_dist.searching.trials import Trial

EndState = Literal["finished", "failed", "pruned"]


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a trial ended.

    Attributes:
        state: of the trial.
        value: mean of its runs' best values; None where it failed without one.
        epoch: where it was stopped early; None for other trials.
    """

    state: EndState
    value: float | None
    epoch: int | None = None


class Source(Protocol):
    """Gives out trials, and is told how they ended."""

    def next_trial(self) -> Trial | None:
        """The next trial, which may be finished already; None if there is none left."""

    def tell(self, trial: Trial, ending: Ending) -> None:
        """A trial has ended. It is not told of trials that the sweep's own end stopped."""


class Planned:
    """The trials of a grid or a random search.

    Args:
        trials: in the order in which they are to begin.
    """

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._trials = deque(trials)

    def next_trial(self) -> Trial | None:
        """The next trial of the list."""
        return self._trials.popleft() if self._trials else None

    def tell(self, trial: Trial, ending: Ending) -> None:
        """Nothing depends on it."""
