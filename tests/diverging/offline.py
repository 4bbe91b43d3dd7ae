"""A side of one process within the process of the test: it does all steps, and each of them again for each layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from signs_dist.diverging.blame import KNOWN_AT_ONCE, Place, compare_steps, refine
from signs_dist.diverging.facts import Detail, Start, Step
from signs_dist.diverging.orders import SideOrder
from signs_dist.diverging.side import Server, describe_start, open_run
from signs_dist.retraining.again import begin_again
from signs_dist.retraining.programs import run_here
from signs_dist.training.process import Process


class Script:
    """In place of the line to the command: asks for each step, and twice for each of its micro-batches again."""

    def __init__(self, num_steps: int, wanted: Sequence[int | None]) -> None:
        self.steps: list[Step] = []
        self.details: dict[tuple[int, int | None], list[Detail]] = {}
        self._num_steps, self._wanted = num_steps, [each for each in wanted for _ in range(2)]
        self._asked: list[int | None] = []

    def send(self, value: dict[str, Any]) -> None:
        if "number" in value:
            self.steps.append(Step.from_fields(value))
            self._asked = list(self._wanted)
        elif "events" in value:
            self.details.setdefault((self.steps[-1].number, self._now), []).append(Detail.from_fields(value))

    def receive(self) -> dict[str, Any]:
        if self._asked:
            self._now = self._asked.pop(0)
            return {"do": "again", "micro_batch": self._now}
        return {"do": "step" if len(self.steps) < self._num_steps else "end"}


@dataclasses.dataclass
class Recorded:
    """What a side did."""

    start: Start
    script: Script


def record(settings: Sequence[str], num_steps: int, wanted: Sequence[int | None] = (None, 0)) -> Recorded:
    """Train a config from its beginning, with the program of a side.

    Args:
        settings: of the config.
        num_steps: of the run.
        wanted: of each step these micro-batches are done again.
    """
    order = SideOrder("A", ("", 0), "", None, None, list(settings), None, "cpu", 0, num_steps)
    config, run, start, notes = open_run(order)
    kept: list[Recorded] = []

    def work(process: Process) -> dict[str, Any]:
        again = begin_again(config, process, run, start)
        script = Script(num_steps, wanted)
        try:
            kept.append(Recorded(describe_start(again, config, 0, notes), script))
            Server(again, process, script).serve(num_steps)  # type: ignore[arg-type]
        finally:
            again.close()
        return {}

    run_here(config, work, device="cpu")
    return kept[0]


def find_place(left: Recorded, right: Recorded) -> Place | None:
    """The first difference of two sides, as the command finds it."""
    for one, other in zip(left.script.steps, right.script.steps, strict=False):
        place = compare_steps([one], [other])
        if place is not None and place.direction not in KNOWN_AT_ONCE:
            key = place.number, place.micro_batch
            ours, theirs = ([[each] for each in side.script.details[key]] for side in (left, right))
            place = refine(place, ours, theirs)
        if place is not None:
            return place
    return None
