"""Measures a config on this machine, in this order. Read this file from top to bottom."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from signs_dist.benching.figures import Figures, Saving, Setup, Sums
from signs_dist.benching.loading import measure_loading, worker_counts
from signs_dist.benching.loops import RealLoop, SavingLoop, steps_between_saves
from signs_dist.benching.sums import measure_sums
from signs_dist.config.settings import Config
from signs_dist.data.device_batches import bytes_that_fit
from signs_dist.distributed.strategy import DistributedProcesses
from signs_dist.environment.core_wait import CoreWait
from signs_dist.learning.precision import find_capability
from signs_dist.monitoring.signals import call_at_end, no_call_at_end
from signs_dist.training.bare import BareNetwork, seconds_per_image
from signs_dist.training.prepare import Prepared, prepare, require_same_images
from signs_dist.training.process import Process
from signs_dist.training.stepper import Stepper
from signs_dist.tuning.rounds import Timing, Work, measure
from signs_dist.tuning.variants import Variant, fitting_batch, list_variants, precisions

STEPS_PER_MEASUREMENT = 4
"""A step takes at most this part of the time of a measurement: a larger one is measured with fewer images."""
TRACED_STEPS = 3


def bench(config: Config, process: Process, *, seconds: float) -> Figures:
    """Measure what a config does on this machine. All processes of a run call this.

    Nothing is written but the cache of decoded images, as in a run, and checkpoints in a temporary folder.

    Args:
        config: all settings.
        process: where this process runs.
        seconds: to spend on each measurement, about.

    Raises:
        UserError: the data or the model cannot be used.
        TrainingFailedError: the loss is not a finite number.
    """
    strategy, context = process.strategy, process.context
    share = functools.partial(strategy.share_value, phase="agree on the steps to measure")
    whole = with_whole_images(config)
    prepared = strategy.all_succeed(lambda: prepare(whole, process), "wait for all to prepare")
    require_same_images(prepared, strategy)
    chosen = Variant(prepared.way.num_threads, config.train.channels_last, prepared.precision.name)
    prepared = _with_fitting_batch(prepared, process, chosen, seconds)
    earlier = CoreWait.read()
    with contextlib.ExitStack() as cleanup:
        stepper = Stepper(prepared, process)
        cleanup.callback(stepper.close)
        loop = RealLoop(stepper, process)
        cleanup.callback(loop.close)
        networks = _Networks(prepared, process)
        saving = SavingLoop(loop, stepper, process, cleanup.enter_context(_passing_folder()))
        cleanup.callback(saving.close)
        process.pulse.enter("measure the loop")
        loops = measure(
            {"bare": networks.way(chosen), "data": loop.work, "saving": saving.work}, seconds=seconds, share=share
        )
        parts = networks.of(chosen).split(seconds, chosen.num_threads, chosen.precision)
        parts["images, augmented"] = loop.prepare_seconds()
        process.pulse.enter("measure the network")
        names = precisions(strategy.device.type, has_bfloat16=find_capability(strategy.device).has_bfloat16)
        variants = list_variants(chosen, context.cores_per_process, names, strategy.device.type)
        timings = measure({one.name: networks.way(one) for one in variants}, seconds=seconds, share=share)
        process.pulse.enter("measure the loader")
        # Images on the device are loaded by this process alone.
        most = 0 if config.data.storage == "device" else context.cores_per_process
        counts = worker_counts(most, prepared.loading.num_workers)
        loading = measure_loading(prepared, strategy.shard, counts, seconds=seconds, share=share)
        process.pulse.enter("measure sums over processes")
        sums = _measure_sums(prepared, process, seconds)
        process.pulse.enter("trace steps")
        trace = loop.trace(TRACED_STEPS)
    return Figures(
        setup=_describe(stepper, process, chosen, has_sizes=bool(config.train.progressive_sizes)),
        variants={one: timings[one.name] for one in variants},
        bare=loops["bare"],
        data=loops["data"],
        wait_share=loop.wait_share,
        parts=parts,
        saving=_cost_of_saves(loops["data"], loops["saving"], prepared),
        loading=loading,
        sums=sums,
        trace=trace,
        core_wait_share=_core_wait_share(earlier),
    )


def with_whole_images(config: Config) -> Config:
    """The same without `train.progressive_sizes`: the network alone is measured on images of `data.image_size` too."""
    return config.model_copy(update={"train": config.train.model_copy(update={"progressive_sizes": ()})})


def _describe(stepper: Stepper, process: Process, chosen: Variant, *, has_sizes: bool) -> Setup:
    prepared, config = stepper.prepared, stepper.prepared.config
    decided = {"train.num_threads": config.train.num_threads, "train.precision": config.train.precision}
    return Setup(
        device=process.devices,
        num_cores=process.context.cores_per_process,
        world_size=process.strategy.world_size,
        is_exact=config.exact,
        batch=prepared.plan.global_batch,
        wanted_batch=config.train.global_batch,
        chosen=chosen,
        automatic=[name for name, value in decided.items() if value == "auto"],
        storage=config.data.storage,
        device_bytes=None
        if config.augment.backend == "torchvision"
        else bytes_that_fit(prepared.data.num_images, config.data.image_size, process.strategy.device),
        is_cached=config.model.cache_features,
        has_sizes=has_sizes,
        num_workers=prepared.loading.num_workers,
        step=stepper.graph.describe() if process.strategy.device.type == "cuda" else "",
    )


@contextlib.contextmanager
def _passing_folder() -> Iterator[Path]:
    """A folder for temporary files, removed after the block, and also where a signal ends the process at once."""
    with tempfile.TemporaryDirectory(prefix="signs_dist-bench-", ignore_cleanup_errors=True) as folder:

        def remove(code: int) -> None:
            shutil.rmtree(folder, ignore_errors=True)

        call_at_end(remove)
        try:
            yield Path(folder)
        finally:
            no_call_at_end(remove)


class _Networks:
    """The bare network in both memory formats, each made when it is first asked for."""

    def __init__(self, prepared: Prepared, process: Process) -> None:
        num_classes, batch = len(prepared.data.classes), prepared.plan.num_own(process.strategy.shard)
        self._make = functools.partial(BareNetwork, prepared.config, num_classes, batch, process.strategy.device)
        self._made: dict[bool, BareNetwork] = {}

    def of(self, variant: Variant) -> BareNetwork:
        """The network in the variant's memory format."""
        layout = variant.channels_last
        if layout not in self._made:
            self._made[layout] = self._make(channels_last=layout)
        return self._made[layout]

    def way(self, variant: Variant) -> Work:
        """Steps of the network in this way."""
        return self.of(variant).way(variant.num_threads, variant.precision)


def _with_fitting_batch(prepared: Prepared, process: Process, chosen: Variant, seconds: float) -> Prepared:
    """The same with a smaller batch, where a step of the whole batch takes too long to be measured."""
    strategy, plan = process.strategy, prepared.plan
    own = min(plan.micro_batches.counts(strategy.world_size)) * plan.micro_batches.size
    each = seconds_per_image(prepared.config, len(prepared.data.classes), own, strategy.device, chosen)
    fits = strategy.share_value(fitting_batch(own, each, seconds / STEPS_PER_MEASUREMENT), "agree on the batch")
    if fits == own:
        return prepared
    global_batch = fits * strategy.world_size
    return dataclasses.replace(prepared, plan=dataclasses.replace(plan, global_batch=global_batch, micro_batch=fits))


def _measure_sums(prepared: Prepared, process: Process, seconds: float) -> Sums | None:
    strategy = process.strategy
    if not isinstance(strategy, DistributedProcesses):
        return None
    share = functools.partial(strategy.share_value, phase="agree on the sums to measure")
    micro_batches = prepared.plan.micro_batches
    return measure_sums(prepared.model, micro_batches, strategy.shard, strategy.group, seconds=seconds, share=share)


def _cost_of_saves(data: Timing, saving: Timing, prepared: Prepared) -> Saving:
    """What one save adds to the steps of a round, and how often the config asks for one."""
    added = max(0.0, (saving.seconds - data.seconds) * saving.num_steps)
    # Steps of the config's own batch: that of the measurement may be smaller.
    plan, wanted = prepared.plan, prepared.config.train.global_batch
    per_epoch = max(1, min(len(prepared.data.splits["train"]) // wanted, plan.max_steps or plan.num_samples))
    step_seconds = data.seconds * wanted / plan.global_batch
    between, setting = steps_between_saves(prepared.config.checkpoint, per_epoch, step_seconds)
    return Saving(added, max(1, round(between * wanted / plan.global_batch)), setting)


def _core_wait_share(earlier: CoreWait | None) -> float | None:
    """Which share of the time since `earlier` a thread waited for a core; None where the system does not tell."""
    now = CoreWait.read()
    if earlier is None or now is None:
        return None
    return now.longest_since(earlier) / (now.time - earlier.time)
