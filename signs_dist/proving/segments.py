"""Which parts of a run are trained again: all are pure functions of the places of its states."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Collection, Sequence


@dataclasses.dataclass(frozen=True, order=True)
class Segment:
    """A part of a run between two of its states.

    Attributes:
        first: the steps done at its beginning.
        last: the steps done at its end.
    """

    first: int
    last: int

    @property
    def num_steps(self) -> int:
        """Its steps."""
        return self.last - self.first

    def describe(self, num_steps: int) -> str:
        """The steps and epochs, from 1: `steps 28 to 54, epoch 2`.

        Args:
            num_steps: of an epoch.
        """
        first, last = self.first // num_steps + 1, (self.last - 1) // num_steps + 1
        epochs = f"epoch {first}" if first == last else f"epochs {first} to {last}"
        return f"steps {self.first + 1:,} to {self.last:,}, {epochs}"


def find_segments(kept: Collection[int], lines: Sequence[int]) -> list[Segment]:
    """The segments of a run: each from the beginning or a state that is kept to the next one, or to the last line.

    Args:
        kept: the steps done at the states that are kept and have a line in the chain.
        lines: the steps done at all lines of the chain. A segment needs a state to begin from; at its end a line
            suffices.
    """
    if not lines:
        return []
    borders = sorted({0, max(lines), *(step for step in kept if 0 < step <= max(lines))})
    return [Segment(first, last) for first, last in itertools.pairwise(borders)]


def without_other_subjects(segments: Sequence[Segment], others: Collection[int]) -> list[Segment]:
    """The segments without those that have a line of another subject: other settings, images or code.

    Args:
        segments: of the run.
        others: the steps done at such lines.
    """
    return [each for each in segments if not any(each.first < step <= each.last for step in others)]


def short_ones(segments: Sequence[Segment], most_steps: int) -> list[Segment]:
    """The segments of at most so many steps: longer ones begin at a state whose followers were not kept."""
    return [segment for segment in segments if segment.num_steps <= most_steps]


def choose(segments: Sequence[Segment], number: int, seed: int) -> list[Segment]:
    """So many of the segments, by the seed, in the order of the run; all if they are fewer."""
    return sorted(random.Random(seed).sample(list(segments), min(number, len(segments))))


def joined(segments: Sequence[Segment]) -> list[Segment]:
    """The segments, in the order of the run, with those that follow one another made one."""
    found: list[Segment] = []
    for segment in sorted(segments):
        if found and found[-1].last == segment.first:
            found[-1] = Segment(found[-1].first, segment.last)
        else:
            found.append(segment)
    return found


def describe_rest(rest: Sequence[Segment], num_steps: int) -> str:
    """The segments for a sentence: `steps 1 to 54, epochs 1 to 2; …`."""
    return "; ".join(segment.describe(num_steps) for segment in joined(rest))
