"""Where numbers stop being finite: the first layer of a pass whose output is not, forward or backward."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from signs_dist.replaying.records import IMAGES, LOSS, Event, Step


@dataclasses.dataclass(frozen=True)
class FirstBad:
    """The first tensor of a micro-batch that is not finite.

    Attributes:
        step: of the run, from 1.
        micro_batch: its number.
        event: the tensor.
        before: the last one before it, which is finite; None if it is the first.
        bad_weights: parameters and buffers of its layer that were not finite before the step.
    """

    step: int
    micro_batch: int
    event: Event
    before: Event | None = None
    bad_weights: tuple[str, ...] = ()

    def describe(self) -> str:
        """A sentence for people."""
        return f"micro-batch {self.micro_batch}: {self._what()}"

    def _what(self) -> str:
        event = self.event
        count = f"{event.num_bad:,} of {_size(event):,} values {'is' if event.num_bad == 1 else 'are'} NaN or infinite"
        if event.name == IMAGES:
            return f"the images are not finite before they go into the network ({count})"
        if event.name == LOSS:
            return f"the loss function is the first whose output is not finite ({count}). That of each layer is finite"
        if event.direction == "forward":
            why = f", whose {_names(self.bad_weights)} not finite" if self.bad_weights else ""
            most = f"; the largest value before it is {self.before.largest:.4g}" if self.before else ""
            return f"{event.name} is the first layer whose output is not finite, forward{why} ({count}{most})"
        what = f"the gradient at the output of {event.name}"
        if event.direction == "gradient":
            what = f"the gradient of {event.name}"
        behind = ""
        if self.before is not None and self.before.direction == "backward":
            behind = f"; the one before, at the output of {self.before.name}, is finite"
        return f"{what} is the first that is not finite, backward{behind} ({count}). All of forward is finite"


def find_first_bad(steps: Sequence[Step]) -> FirstBad | None:
    """The first tensor that is not finite: of the first such step, in its first such micro-batch; None without one."""
    for step in steps:
        for micro_batch in step.micro_batches:
            for place, event in enumerate(micro_batch.events):
                if event.num_bad:
                    before = micro_batch.events[place - 1] if place else None
                    bad = tuple(name for name in step.bad_weights if _is_of(name, event.name))
                    return FirstBad(step.step, micro_batch.number, event, before, bad)
    return None


def _is_of(weight: str, layer: str) -> bool:
    """Whether a parameter or buffer belongs to a layer or to a layer within it. A second call is `name#2`."""
    return weight.startswith(f"{layer.partition('#')[0].partition('[')[0]}.")


def _names(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _size(event: Event) -> int:
    size = 1
    for length in event.shape:
        size *= length
    return size
