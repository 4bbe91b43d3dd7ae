"""What `bench` has measured, as values: they go into its tables, its advice and its JSON file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from signs_dist.training.profiling import Operation, most_expensive
from signs_dist.tuning.rounds import Timing
from signs_dist.tuning.variants import Variant


@dataclasses.dataclass(frozen=True)
class Saving:
    """What saving costs.

    Attributes:
        seconds: by which a save makes the steps around it longer, its writing included.
        steps_between: steps from one save to the next, as the config asks.
        setting: the setting that asks for it; "" for the save at the end of each epoch.
    """

    seconds: float
    steps_between: int
    setting: str = ""


@dataclasses.dataclass(frozen=True)
class Sums:
    """Sums over the processes of a run.

    Attributes:
        num_bytes: of the gradient.
        seconds: of one sum of the gradient, without a computation beside it.
        exact_seconds: the same in the fixed order of exact mode.
        latency_seconds: of a sum of one number.
    """

    num_bytes: int
    seconds: float
    exact_seconds: float
    latency_seconds: float

    def bytes_per_second(self, world_size: int) -> float:
        """What each process sends in a second, if it sends 2 (W - 1) / W times the gradient, as a ring does."""
        return 2 * (world_size - 1) / world_size * self.num_bytes / self.seconds


@dataclasses.dataclass(frozen=True)
class Trace:
    """The operations of some steps of the real loop.

    Attributes:
        operations: of torch.
        num_steps: traced steps.
        seconds: they took together.
    """

    operations: Sequence[Operation]
    num_steps: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Setup:
    """What was measured, and where.

    Attributes:
        device: for people.
        num_cores: cores that this process may use.
        world_size: processes of the run.
        is_exact: whether the config asks for exact mode.
        batch: images of a measured step, over all processes.
        wanted_batch: train.global_batch: larger where a step of it would take too long to measure.
        chosen: how the run computes its network.
        automatic: names of the settings that are `auto`.
        storage: data.storage.
        device_bytes: bytes of the images of all splits, if the run is on a GPU that has room for them; else None.
        is_cached: model.cache_features.
        has_sizes: whether the config has train.progressive_sizes, which are not measured.
        num_workers: of the run's loader.
        step: how the real loop does a step on a GPU: whether as a CUDA graph; "" on a CPU.
    """

    device: str
    num_cores: int
    world_size: int
    is_exact: bool
    batch: int
    wanted_batch: int
    chosen: Variant
    automatic: Sequence[str]
    storage: str
    device_bytes: int | None
    is_cached: bool
    has_sizes: bool
    num_workers: int
    step: str = ""


@dataclasses.dataclass(frozen=True)
class Figures:
    """All that was measured. Seconds are those of a step of `setup.batch` images, unless it is said.

    Attributes:
        setup: what was measured, and where.
        variants: how long other ways take; the chosen one is among them.
        bare: the network alone on random tensors.
        data: the real loop, with images from the real loader.
        wait_share: which share of `data` is waiting for images.
        parts: name → seconds of the parts of a step.
        saving: what saving costs.
        loading: number of workers → seconds for the images of a step, by the loader alone.
        sums: over processes; None for one process.
        trace: what torch did in some steps.
        core_wait_share: which share of the time a thread waited for a core; None where the system does not tell.
    """

    setup: Setup
    variants: Mapping[Variant, Timing]
    bare: Timing
    data: Timing
    wait_share: float
    parts: Mapping[str, float]
    saving: Saving
    loading: Mapping[int, Timing]
    sums: Sums | None
    trace: Trace
    core_wait_share: float | None

    @property
    def saving_seconds(self) -> float:
        """Seconds of a step with its share of a save."""
        return self.data.seconds + self.saving.seconds / self.saving.steps_between

    def rate(self, seconds: float) -> float:
        """Images per second where a step takes `seconds`."""
        return self.setup.batch / seconds


def as_json(figures: Figures, advice: Sequence[str]) -> dict[str, Any]:
    """The figures as plain values; speeds are in images per second."""
    sums = figures.sums
    return {
        "version": 1,
        "device": figures.setup.device,
        "num_cores": figures.setup.num_cores,
        "world_size": figures.setup.world_size,
        "exact": figures.setup.is_exact,
        "batch": figures.setup.batch,
        "global_batch": figures.setup.wanted_batch,
        "images_per_second": {
            "bare": figures.rate(figures.bare.seconds),
            "data": figures.rate(figures.data.seconds),
            "saving": figures.rate(figures.saving_seconds),
        },
        "data_wait_share": figures.wait_share,
        "core_wait_share": figures.core_wait_share,
        "part_seconds": dict(figures.parts),
        "chosen": dataclasses.asdict(figures.setup.chosen),
        "variants": [
            {**dataclasses.asdict(variant), "images_per_second": figures.rate(timing.seconds)}
            for variant, timing in figures.variants.items()
        ],
        "saving": dataclasses.asdict(figures.saving),
        "num_workers": figures.setup.num_workers,
        "loader": [
            {"num_workers": number, "images_per_second": figures.rate(timing.seconds)}
            for number, timing in figures.loading.items()
        ],
        "sums": None
        if sums is None
        else {**dataclasses.asdict(sums), "bytes_per_second": sums.bytes_per_second(figures.setup.world_size)},
        "operations": [
            {"name": one.name, "share": one.seconds / figures.trace.seconds, "calls": one.num_calls}
            for one in most_expensive(figures.trace.operations)
        ],
        "advice": list(advice),
    }
