"""Chooses threads and memory format of a run by a trial at its start, or by an earlier one: `train.autotune`."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

import torch

from signs_dist.environment.core_use import WAITING
from signs_dist.environment.core_wait import CoreWait
from signs_dist.environment.processor import read_own_processor
from signs_dist.environment.user_cache import user_cache_folder
from signs_dist.training.prepare import Prepared, layout_of
from signs_dist.training.process import Process
from signs_dist.training.trying_ways import WaysTrial
from signs_dist.tuning.choice import Choice, counts_to_try
from signs_dist.tuning.kept import Question, kept_path, read_kept, write_kept
from signs_dist.tuning.variants import Variant

DISTURBED_SHARE = 0.1
"""A trial in which a thread waited for a core for this share of the time is kept for no other run."""
_READ_BY_LIBRARIES = (*WAITING, "LD_PRELOAD")
"""Variables on which the speed of a way depends, beside those that `read_own_processor` tells."""


def with_fastest_way(prepared: Prepared, process: Process) -> Prepared:
    """`prepared` with the threads and the memory format that are the fastest here, if train.autotune asks for it.

    All processes of the run call this, and all choose the same. No weight changes, and no random number is drawn.
    """
    config, strategy = prepared.config, process.strategy
    if not config.train.autotune:
        return prepared
    process.pulse.enter("try threads and memory format")
    every = strategy.gather_values(_about_process(prepared, process), "compare machines")
    counts = counts_to_try(config.train.num_threads, [each["num_threads"] for each in every], strategy.device.type)
    folder, question = user_cache_folder(os.environ), _question(prepared, every, counts)
    choice = strategy.share_value(
        read_kept(folder, question, counts) if strategy.is_main else None, "read the kept choice"
    )
    origin = "as tried before"
    if choice is None:
        choice, share = _try(prepared, process, counts)
        if choice is None:
            return _with_way(prepared, tuned="the trial failed: threads and memory format are as set")
        origin = _keep(folder, question, choice, share) if strategy.is_main else "tried now"
    elif strategy.is_main:
        origin = f"as tried before, kept in {kept_path(folder, question)}"
    return _use(prepared, choice, origin, are_threads_free=len(counts) > 1)


def _try(prepared: Prepared, process: Process, counts: list[int]) -> tuple[Choice | None, float]:
    """The choice, and the largest share of the trial in which a thread of a process waited for a core."""
    batch = prepared.plan.micro_batches.size // process.strategy.num_replicas or 1
    earlier = CoreWait.read()
    trial = WaysTrial(prepared.config, len(prepared.data.classes), batch, _as_set(prepared), process.strategy)
    choice = trial.run(counts)
    now = CoreWait.read()
    share = 0.0 if earlier is None or now is None else now.longest_since(earlier) / max(now.time - earlier.time, 1e-9)
    return choice, max(process.strategy.gather_values(share, "compare waits for cores"))


def _as_set(prepared: Prepared) -> Variant:
    return Variant(prepared.way.num_threads, prepared.way.channels_last, prepared.precision.name)


def _keep(folder: Path, question: Question, choice: Choice, share: float) -> str:
    """Keep a choice for other runs. Returns what to tell about it."""
    if share >= DISTURBED_SHARE:
        return "tried now beside busy programs, and not kept for other runs"
    if not write_kept(folder, question, choice):
        return f"tried now; {folder} cannot be written"
    return f"tried now, and kept in {kept_path(folder, question)}"


def _use(prepared: Prepared, choice: Choice, origin: str, *, are_threads_free: bool) -> Prepared:
    before = _as_set(prepared)
    num_threads = choice.num_threads if are_threads_free else prepared.way.num_threads
    way = Variant(num_threads, choice.channels_last, before.precision)
    if num_threads != before.num_threads:
        torch.set_num_threads(num_threads)
    if way.channels_last != before.channels_last:
        prepared.model.to(memory_format=layout_of(way.channels_last))
    told = f"{describe(way, before, choice)}; {origin}"
    return _with_way(prepared, num_threads=num_threads, channels_last=way.channels_last, tuned=told)


def _with_way(prepared: Prepared, **changes: Any) -> Prepared:
    return dataclasses.replace(prepared, way=dataclasses.replace(prepared.way, **changes))


def describe(way: Variant, before: Variant, choice: Choice) -> str:
    """The banner's words: the way, and how it compares with the one that the config sets."""
    words = way.name.rpartition(", ")[0]
    if way == before:
        return f"{words}, as set: none of {choice.num_ways} ways is 5 % faster"
    return f"{words}: {choice.factor:.2f} times as fast as {before.name.rpartition(', ')[0]}"


def _about_process(prepared: Prepared, process: Process) -> dict[str, Any]:
    """What decides how fast a way is on this process's machine, as values of JSON."""
    context = process.context
    return {
        "num_threads": prepared.way.num_threads,
        "processor": read_own_processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "device": process.devices,
        "cores": context.usable_cores,
        "processes_on_machine": context.local_world_size,
        "variables": {name: os.environ[name] for name in _READ_BY_LIBRARIES if name in os.environ},
    }


def _question(prepared: Prepared, every: list[dict[str, Any]], counts: list[int]) -> Question:
    """All that the choice depends on. Values of the config that change no speed are not among it."""
    config = prepared.config
    shapes = [(name, list(parameter.shape)) for name, parameter in prepared.model.named_parameters()]
    kinds = {str(sorted(each.items(), key=lambda item: item[0])) for each in every}
    return {
        "machines": sorted(kinds),
        "num_processes": len(every),
        "torch": torch.__version__,
        "counts": counts,
        "as_set": dataclasses.asdict(_as_set(prepared)),
        "model": config.model.model_dump(mode="json"),
        "parameters": hashlib.sha256(repr(shapes).encode()).hexdigest(),
        "num_classes": len(prepared.data.classes),
        "image_size": config.data.image_size,
        "micro_batch": prepared.plan.micro_batches.size,
        "loss": config.loss.name,
        "optimizer": config.optim.name,
        "allocator": config.train.allocator,
    }
