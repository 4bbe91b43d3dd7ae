"""The number by which the page about several runs compares them, in numbers and in words."""

from __future__ import annotations

import dataclasses

from signs_dist.console.screen import percent
from signs_dist.results.sweeps import DEFAULT_MEASURE, MEASURES


@dataclasses.dataclass(frozen=True)
class Measure:
    """The best value of a run over its epochs, of one of the numbers by which sweeps compare trials.

    Attributes:
        name: as in `MEASURES`, and in the lines of metrics.jsonl.
    """

    name: str = DEFAULT_MEASURE

    @property
    def label(self) -> str:
        """For people: `best val accuracy`."""
        return f"best {self.name.replace('_', ' ').replace('macro f1', 'macro F1')}"

    @property
    def is_less_better(self) -> bool:
        """Whether a smaller value is better."""
        return MEASURES[self.name]

    @property
    def is_share(self) -> bool:
        """Whether the values are shares, 0..1, which are told in percent."""
        return not self.name.endswith("loss")

    @property
    def unit(self) -> str:
        """What a difference is told in; "" for plain numbers."""
        return "percentage points" if self.is_share else ""

    def text(self, value: float) -> str:
        """A value: `75.0 %` or `0.6543`."""
        return percent(value) if self.is_share else f"{value:.4f}"

    def spread_text(self, sd: float) -> str:
        """A standard deviation: `± 1.2` or `± 0.0123`."""
        return f"± {100 * sd:.1f}" if self.is_share else f"± {sd:.4f}"

    def difference_text(self, difference: float) -> str:
        """A difference with its sign: `+1.2` or `-0.0123`."""
        return f"{100 * difference:+.1f}" if self.is_share else f"{difference:+.4f}"

    def goodness(self, value: float | None) -> float:
        """A number that is larger the better the value is; the lowest for None."""
        if value is None:
            return float("-inf")
        return -value if self.is_less_better else value
