"""Times ways to compute the network of a run, on a network of its own: for `train.autotune`."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence

import torch

from signs_dist.config.settings import Config
from signs_dist.data.generators import all_generators_kept, device_generator_kept
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.training.bare import BareNetwork, seconds_per_image
from signs_dist.tuning.choice import FAR, NEAR, Choice, choose, slowest_of
from signs_dist.tuning.rounds import Timing, measure
from signs_dist.tuning.variants import Variant, fitting_batch

ROUNDS_SECONDS = 3.0
"""For the rounds of all ways together."""
LOOKS_SECONDS = 3.0
"""No further way is looked at after this time, but for one other number of threads."""
STEP_SECONDS = 0.15
"""A step that takes longer is tried with fewer images."""
LOOK_SECONDS = 0.1
"""For a first look at a way."""


class WaysTrial:
    """A trial that all processes of a run take part in at once, as they compete for cores when they train.

    Args:
        config: all settings, of fast mode.
        num_classes: of the data.
        batch: images of a forward pass of the run.
        as_set: the way that the config sets.
        strategy: how processes share the run.
    """

    def __init__(self, config: Config, num_classes: int, batch: int, as_set: Variant, strategy: SingleProcess) -> None:
        self._config, self._num_classes, self._as_set, self._strategy = config, num_classes, as_set, strategy
        self._batch = batch
        self._networks: dict[bool, BareNetwork] = {}
        self._looked: dict[Variant, float] = {}
        self._spent_seconds = 0.0

    def run(self, counts: Sequence[int]) -> Choice | None:
        """The fastest way; None if the network cannot be tried, which training then tells with its reason.

        Random generators and the number of threads are as before afterwards; the network of the run is not touched.

        Args:
            counts: numbers of threads to try; the first is the one that is set. With one alone each process keeps its
                own, which may differ.
        """
        with all_generators_kept(), device_generator_kept(self._strategy.device):
            try:
                return self._run(counts)
            finally:
                self._networks.clear()
                if self._strategy.device.type == "cuda":
                    torch.cuda.empty_cache()

    def _run(self, counts: Sequence[int]) -> Choice | None:
        each = self._slowest(self._seconds_per_image)
        if math.isinf(each):
            return None
        self._batch = fitting_batch(self._batch, each, STEP_SECONDS)
        self._look_at_all(counts)
        shortest = min(self._looked.values())
        if math.isinf(self._looked[self._as_set]):
            return None
        near = [way for way, seconds in self._looked.items() if seconds <= NEAR * shortest]
        if self._as_set not in near and self._looked[self._as_set] <= FAR * shortest:
            near.append(self._as_set)
        timings = measure(
            {way.name: self._work(way) for way in near},
            seconds=ROUNDS_SECONDS / len(near),
            share=functools.partial(self._strategy.share_value, phase="agree on the steps to try"),
        )
        by_rank = self._strategy.gather_values([timings[way.name] for way in near], "compare the ways")
        slowest = [slowest_of(timings) for timings in zip(*by_rank, strict=True)]
        looked = self._looked[self._as_set]
        found = {self._as_set: Timing(looked, looked, looked, 1, 1), **dict(zip(near, slowest, strict=True))}
        return choose(found, self._as_set, len(self._looked))

    def _look_at_all(self, counts: Sequence[int]) -> None:
        """Look at the way that is set, at fewer threads as long as they are not slower, and at the other format."""
        self._look(self._as_set)
        for count in counts[1:]:  # the first is that of the way that is set
            # Beside other programs the threads that are set may take very long: one other number is always tried.
            if len(self._looked) > 1 and self._is_late():
                break
            shortest = min(self._looked.values())
            if self._look(self._with(count, self._as_set.channels_last)) > NEAR * shortest:
                break
        near = sorted(self._looked, key=lambda way: self._looked[way])[:2]
        for way in near:
            if not self._is_late():
                self._look(self._with(way.num_threads, not way.channels_last))

    def _with(self, num_threads: int, channels_last: bool) -> Variant:
        return Variant(num_threads, channels_last, self._as_set.precision)

    def _is_late(self) -> bool:
        return self._spent_seconds > LOOKS_SECONDS

    def _look(self, way: Variant) -> float:
        """The seconds of the fastest of some steps on the slowest process; infinite where they fail."""
        if way not in self._looked:
            self._looked[way] = self._slowest(lambda: self._shortest_step(way))
        return self._looked[way]

    def _shortest_step(self, way: Variant) -> float:
        return measure({way.name: self._work(way)}, seconds=LOOK_SECONDS)[way.name].least

    def _work(self, way: Variant) -> Callable[[int], None]:
        if way.channels_last not in self._networks:
            self._networks[way.channels_last] = BareNetwork(
                self._config, self._num_classes, self._batch, self._strategy.device, channels_last=way.channels_last
            )
        return self._networks[way.channels_last].way(way.num_threads, way.precision)

    def _seconds_per_image(self) -> float:
        return seconds_per_image(self._config, self._num_classes, self._batch, self._strategy.device, self._as_set)

    def _slowest(self, take: Callable[[], float]) -> float:
        """The largest value over all processes; infinite where one fails, as for want of memory."""
        started = time.monotonic()
        try:
            seconds = take()
        except (RuntimeError, MemoryError):
            seconds = math.inf
        values: list[tuple[float, float]] = self._strategy.gather_values(
            (seconds, time.monotonic() - started), "compare the ways"
        )
        self._spent_seconds += max(spent for _, spent in values)
        return max(value for value, _ in values)
