"""The banner of a run: folder, data, model, devices, batch, plan, optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from signs_dist.config.settings import Config
from signs_dist.data.device_batches import describe_bytes, pixel_bytes
from signs_dist.data.few_photos import as_typed, settings_for_few
from signs_dist.data.next_step import LARGEST_IMAGE_SIZE
from signs_dist.distributed.compression import Compression
from signs_dist.models.trainable import count_parameters
from signs_dist.training.prepare import Prepared, sides_of
from signs_dist.training.process import Process

IMBALANCED = 3
"""The banner tells that the largest class has at least this many times the training images of the smallest."""

BannerLine = tuple[str, str]
"""(word, text beside it)"""


def banner_lines(
    prepared: Prepared, process: Process, run_path: Path, again: Sequence[BannerLine] = (), busy: str = ""
) -> list[BannerLine]:
    """The lines of the banner.

    Args:
        prepared: what the run trains with.
        process: where this process runs.
        run_path: the run folder.
        again: the lines about the resume; none for a new run.
        busy: what to tell about cores that other programs keep busy; "" for nothing.
    """
    config, plan, strategy = prepared.config, prepared.plan, process.strategy
    num_steps, batch, num_epochs = plan.num_steps, plan.global_batch, config.train.epochs
    epochs = "1 epoch" if num_epochs == 1 else f"{num_epochs} epochs"
    total_steps = num_epochs * num_steps
    num_images = total_steps * batch
    threads = "1 thread" if prepared.way.num_threads == 1 else f"{prepared.way.num_threads} threads"
    exact = f"bit for bit the same for 1 to {plan.micro_batches.count} processes"
    return [
        ("run", str(run_path)),
        *again,
        ("data", f"{_about_data(prepared)}; {_about_loading(prepared, strategy.world_size)}"),
        *_about_classes(prepared),
        *(("note", note) for note in (*prepared.data.notes, *_notes(prepared))),
        ("model", _about_model(prepared)),
        ("on", f"{process.devices}, {threads} a process, {prepared.precision.name}{'; ' + busy if busy else ''}"),
        *([("tuned", prepared.way.tuned)] if prepared.way.tuned else []),
        *_about_sharing(config, strategy.describe(), strategy.world_size, total_steps),
        *_about_step(prepared, strategy.device.type),
        ("batch", f"{plan.micro_batches.describe(strategy.world_size)}; {_about_epoch(prepared)}"),
        *([("exact", exact)] if config.exact else []),
        ("plan", f"{epochs} = {_steps(total_steps)} = {num_images:,} images, seed {config.seed}{_about_sizes(config)}"),
        (
            "learn",
            f"{config.loss.name}, {config.optim.name} with lr {config.optim.lr:g} (as written, no scaling), "
            f"{config.schedule.name}",
        ),
    ]


def _about_sharing(config: Config, sharing: str, world_size: int, num_steps: int) -> list[BannerLine]:
    """A line on how the processes share the work, or on settings that do nothing without other processes."""
    compression, shards = Compression.from_config(config.train), config.train.shard_optimizer
    if world_size > 1:
        kept = "; each process keeps a part of the optimizer" if shards else ""
        return [("by", sharing + compression.describe(num_steps) + kept)]
    idle = [f"train.gradient_compression={compression.kind}"] if compression.kind != "none" else []
    idle += ["train.shard_optimizer=true"] if shards else []
    without = [f"1 process: {' and '.join(idle)} without effect"] if idle else []
    parts = [sharing] * bool(sharing) + without
    return [("by", "; ".join(parts))] if parts else []


def _about_step(prepared: Prepared, device_type: str) -> list[BannerLine]:
    """A line on a CUDA graph and on torch.compile; none on a CPU that compiles nothing."""
    mode = prepared.config.train.compile
    parts = [prepared.graph.describe()] if device_type == "cuda" else []
    parts += [f"network through torch.compile, mode {'default' if mode is True else mode}"] if mode else []
    return [("step", "; ".join(parts))] if parts else []


def _about_data(prepared: Prepared) -> str:
    data = prepared.data
    counts = ", ".join(f"{len(index):,} {name}" for name, index in data.splits.items())
    side = prepared.config.data.image_size
    return f"{data.name}: {counts} images of {side} x {side}, {len(data.classes)} classes"


def _about_loading(prepared: Prepared, world_size: int) -> str:
    config, num_workers = prepared.config.data, prepared.loading.num_workers
    if config.storage == "device":
        num_bytes = pixel_bytes(prepared.data.num_images, config.image_size)
        each = f", in each of {world_size} processes" if world_size > 1 else ""
        return f"all on the device, {describe_bytes(num_bytes)}{each}"
    plural = "s" if num_workers > 1 else ""
    return f"{num_workers} loader worker{plural}" if num_workers else "loaded in this process"


def _about_sizes(config: Config) -> str:
    """The sizes of the training images, such as `; 32 x 32 until epoch 7, then 64 x 64`; "" if there is one."""
    *smaller, (last, _) = sides_of(config)
    if not smaller:
        return ""
    return "; " + "".join(f"{side} x {side} until epoch {until}, " for side, until in smaller) + f"then {last} x {last}"


def _about_classes(prepared: Prepared) -> list[BannerLine]:
    """A line about class imbalance: that the order makes up for it, or that it could. None if there is little."""
    counts = prepared.data.splits["train"].count_per_class()
    largest, smallest = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    if prepared.config.data.order == "balanced":
        sizes = f"{counts[smallest]:,} to {counts[largest]:,} images a class"
        return [("order", f"balanced: each class equally often, from {sizes}")]
    if prepared.class_weights is not None:
        return [("classes", f"weigh in the loss {_extremes(dict(zip(counts, prepared.class_weights, strict=True)))}")]
    if counts[largest] < IMBALANCED * counts[smallest]:
        return []
    sizes = f"{largest} has {counts[largest]:,} training images, {smallest} has {counts[smallest]:,}"
    remedies = "data.order=balanced draws each class equally often, loss.class_weights=balanced weighs rare ones more"
    return [("order", f"class imbalance: {sizes}; {remedies}")]


def _extremes(weights: Mapping[str, float]) -> str:
    """The smallest and the largest weight, such as `from 0.4 (fist) to 3 (two)`."""
    lightest, heaviest = min(weights, key=lambda name: weights[name]), max(weights, key=lambda name: weights[name])
    return f"from {weights[lightest]:.3g} ({lightest}) to {weights[heaviest]:.3g} ({heaviest})"


def _notes(prepared: Prepared) -> list[str]:
    """What makes the data less useful than they could be, and what to type."""
    config, data = prepared.config, prepared.data
    side, stored = config.data.image_size, data.stored_size
    notes = []
    if stored is not None and stored != side:
        hint = f"; to train at their size: data.image_size={stored}" if stored <= LARGEST_IMAGE_SIZE else ""
        notes.append(f"{data.name} holds images of {stored} x {stored}, resized to {side} x {side}{hint}")
    num_images = len(data.splits["train"])
    for_few = settings_for_few(num_images, config)
    if for_few:
        notes.append(
            f"few photos: {num_images:,} give {_steps(config.train.epochs * prepared.plan.num_steps)} in all, from "
            f"which the network learns little; type {as_typed(for_few)}"
        )
    return notes


def _about_model(prepared: Prepared) -> str:
    total, trainable = count_parameters(prepared.model)
    after = prepared.config.model.thaw_after_epochs
    until = f" in the first {'epoch' if after == 1 else f'{after} epochs'}" if after is not None else ""
    frozen = f", {trainable:,} of them trainable{until}" if trainable != total else ""
    return f"{prepared.config.model.name}, {total:,} parameters{frozen}"


def _about_epoch(prepared: Prepared) -> str:
    plan = prepared.plan
    steps = f"{_steps(plan.num_steps)} an epoch"
    if not plan.num_left_out:
        return steps
    num_seen = plan.num_samples - plan.num_left_out
    return f"{steps}, each with {num_seen:,} of {plan.num_samples:,} images, others the next time"


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count:,} steps"
