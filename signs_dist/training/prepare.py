"""Makes from a config what a run trains with: images, plan, model, precision."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.data import Dataset

from signs_dist.config.settings import Config
from signs_dist.data.batches import Batch
from signs_dist.data.device_batches import find_free_bytes, require_room_on_device
from signs_dist.data.loader import LoaderSettings, choose_loader_settings
from signs_dist.data.mixing import require_partners
from signs_dist.data.order import BalancedOrder
from signs_dist.data.plan import EpochPlan, cut_global_batch, require_full_step
from signs_dist.data.progressive import sides_until
from signs_dist.data.randomness import Stream, stream_key
from signs_dist.data.sets import DataSet, open_data_set, open_split, will_draw
from signs_dist.data.synthetic import NUM_CLASSES
from signs_dist.distributed.compression import Compression
from signs_dist.distributed.exactness import EXACT_NUM_THREADS, choose_exact_kernels, require_deterministic_kernels
from signs_dist.distributed.strategy import SingleProcess, convert_sync_batchnorm
from signs_dist.environment.allocator import keep_freed_memory
from signs_dist.errors import UserError
from signs_dist.learning.class_weights import find_class_weights
from signs_dist.learning.precision import Precision, choose_precision, find_capability
from signs_dist.models import create_model
from signs_dist.models.backbone import head_of
from signs_dist.models.compiling import require_one_pass
from signs_dist.models.narrow_inputs import refusing_narrow_inputs
from signs_dist.models.outputs import require_logits, require_own_names
from signs_dist.models.recomputing import recompute_blocks
from signs_dist.models.trainable import require_trainable
from signs_dist.tracking.installed import require_installed
from signs_dist.training.graph_choice import NO_GRAPH, GraphChoice, StepFacts, choose_graph
from signs_dist.training.own_trials import TrialPlace, try_own_code
from signs_dist.training.process import Process


@dataclasses.dataclass(frozen=True)
class Way:
    """In which way this process computes: it changes the time, and the result by rounding only.

    Attributes:
        num_threads: threads of one operation on the CPU.
        channels_last: the memory format of images and weights.
        tuned: what train.autotune chose and from where, for the banner; "" without it.
    """

    num_threads: int
    channels_last: bool
    tuned: str = ""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a run trains with.

    Attributes:
        config: all settings.
        data: the index of the images.
        sources: the batches of each split.
        fingerprints: SHA-256 of each split, from `open_split`.
        plan: which samples each step trains on.
        loading: worker processes and memory of the loaders.
        model: the network on its device, with its initial weights.
        precision: the arithmetic of the forward pass.
        way: threads and memory format.
        class_weights: a factor on the loss for each class; None for none.
        features: batches of the backbone's features of each split, from `with_features`; None: images are used.
        graph: how much of a training step becomes a CUDA graph.
    """

    config: Config
    data: DataSet
    sources: Mapping[str, Dataset[Batch]]
    fingerprints: Mapping[str, str]
    plan: EpochPlan
    loading: LoaderSettings
    model: nn.Module
    precision: Precision
    way: Way
    class_weights: tuple[float, ...] | None = None
    features: Mapping[str, Dataset[Batch]] | None = None
    graph: GraphChoice = NO_GRAPH

    @property
    def trained_part(self) -> nn.Module:
        """What a forward pass computes: the head alone where features are stored, else the whole network."""
        return self.model if self.features is None else head_of(self.model)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.model.parameters()).device

    def about_data(self) -> dict[str, Any]:
        """The manifest's entry on the data: their place, and fingerprints that show whether they have changed."""
        return {
            "name": self.data.name,
            "root": str(self.data.root.resolve()),
            "sources": [str(source.resolve()) for source in self.data.sources],
            "classes": list(self.data.classes),
            "fingerprints": dict(self.fingerprints),
        }


def prepare(
    config: Config, process: Process, *, micro_batch: int | None = None, division: Path | None = None
) -> Prepared:
    """Open the data, plan the epochs and make the model.

    Args:
        config: all settings.
        process: where this process runs.
        micro_batch: images of a micro-batch in an earlier attempt. It is kept if the config sets none and each process
            gets at least one.
        division: of a run that has begun: the copy of the division of its images, if it has one.

    Raises:
        UserError: the data or the model cannot be used.
    """
    strategy, context = process.strategy, process.context
    num_threads = choose_num_threads(config.train.num_threads, context.num_threads, exact=config.exact)
    torch.set_num_threads(num_threads)
    keep_freed_memory(config.train.allocator, strategy.device.type)
    if config.exact:
        choose_exact_kernels()
    # Quick checks come first: reading images may take long.
    require_installed(config.log.to)
    micro_batches = cut_global_batch(
        config.train.global_batch,
        config.train.micro_batch or _kept_micro_batch(config.train.global_batch, micro_batch, strategy),
        strategy.world_size,
        num_replicas=strategy.num_replicas,
    )
    require_partners(config.augment, micro_batches.size)
    graph = choose_graph(
        StepFacts.of(
            config,
            device_type=strategy.device.type,
            num_processes=strategy.world_size,
            num_replicas=strategy.num_replicas,
        )
    )
    require_one_pass(config.train.compile, strategy.device.type, max(micro_batches.counts(strategy.world_size)))
    if config.train.compile is not False and strategy.num_replicas > 1:
        raise UserError(
            "train.compile works on one network, and --dp copies it to each GPU. Set train.compile=false, or type "
            f"torchrun --nproc_per_node={strategy.num_replicas} -m signs_dist.train"
        )
    precision = choose_precision(config.train.precision, find_capability(strategy.device))
    Compression.from_config(config.train).require_precision(precision.name)
    if will_draw(config.data):
        _require_usable(config)
    with process.screen.preparing() as report:
        data = open_data_set(
            config.data,
            num_processes=context.cores_per_process,
            report=report,
            division=division,
            tell=process.screen.result,
            since=process.started,
        )
        plan = _make_plan(config, data, micro_batches.size)
        class_weights = find_class_weights(config.loss.class_weights, data.splits["train"].count_per_class())
        model = _make_model(config, len(data.classes), plan, process, precision)
        if config.exact:
            # The code of the model may have chosen others.
            torch.set_num_threads(num_threads)
            choose_exact_kernels()
            require_deterministic_kernels(model, strategy.device.type)
        if config.data.storage == "device":
            _require_room_for_images(data, config.data.image_size, process)
        with data.inspection_advised():
            opened = {
                name: open_split(
                    index,
                    config.data,
                    num_threads=context.cores_per_process,
                    report=report,
                    augment=config.augment if name == "train" else None,
                    seed=config.seed,
                    tell=process.screen.result,
                    exact=config.exact,
                    device=strategy.device,
                )
                for name, index in data.splits.items()
            }
    return Prepared(
        config=config,
        data=data,
        sources={name: source for name, (source, _) in opened.items()},
        fingerprints={name: fingerprint for name, (_, fingerprint) in opened.items()},
        plan=plan,
        loading=choose_loader_settings(
            config.data,
            usable_cores=context.cores_per_process,
            on_gpu=strategy.device.type == "cuda",
            per_sample_work=config.data.storage == "files" or config.augment.backend == "torchvision",
        ),
        model=model,
        precision=precision,
        way=Way(num_threads, config.train.channels_last),
        class_weights=class_weights,
        graph=graph,
    )


def _require_room_for_images(data: DataSet, image_size: int, process: Process) -> None:
    """Refuse a data set that the device cannot hold, before it is decoded."""
    device = process.strategy.device
    # Processes that train on the CPUs of a machine share its memory.
    num_sharing = 1 if device.type == "cuda" else process.context.local_world_size
    require_room_on_device(data.num_images, image_size, device, find_free_bytes(device), num_sharing=num_sharing)


def _make_plan(config: Config, data: DataSet, micro_batch: int) -> EpochPlan:
    """Which training images each step uses. Raises `UserError` if they are fewer than a step takes."""
    labels = data.splits["train"].labels
    require_full_step(config.train.global_batch, len(labels))
    return EpochPlan(
        len(labels),
        config.train.global_batch,
        config.seed,
        micro_batch=micro_batch,
        order=BalancedOrder(labels, config.seed) if config.data.order == "balanced" else None,
        max_steps=config.train.epoch_steps,
    )


def _make_model(config: Config, num_classes: int, plan: EpochPlan, process: Process, precision: Precision) -> nn.Module:
    """The network on its device, tried in eval mode with what the user's own code computes of its output.

    Raises:
        UserError: the network, or code of the user's own, cannot be used.
    """
    strategy = process.strategy
    model = build_model(config, num_classes, strategy.device)
    require_trainable(model)
    require_own_names(model, config.model.name)
    _require_logits(model, config, num_classes, precision)
    try_own_code(config, TrialPlace(model, num_classes, plan.num_steps * plan.global_batch))
    if config.train.sync_batchnorm:
        model = convert_sync_batchnorm(model, strategy, plan.micro_batches.counts(strategy.world_size))
    return model


def _require_logits(model: nn.Module, config: Config, num_classes: int, precision: Precision) -> None:
    """Try the network on images of each size that the run has. Raises `UserError` if one does not suit it."""

    # Source: `models/narrow_inputs.py`. GPUs have kernels of their own.
    watches = precision.name == "bfloat16" and next(model.parameters()).device.type == "cpu"

    def try_at(side: int) -> None:
        name, autocast = config.model.name, precision.autocast()
        watching = refusing_narrow_inputs(model, name, side) if watches else contextlib.nullcontext()
        with watching:
            require_logits(model, name, num_classes=num_classes, image_size=side, autocast=autocast)

    *smaller, (whole, _) = sides_of(config)
    try_at(whole)
    try:
        for side, _ in smaller:
            try_at(side)
    except UserError as error:
        raise UserError(
            f"{error} train.progressive_sizes needs a network for images of any size, such as signs_fast; else type "
            f"train.progressive_sizes=[]"
        ) from error


def sides_of(config: Config) -> list[tuple[int, int]]:
    """Pairs (side of the training images in pixels, number of epochs until which they have it)."""
    return sides_until(
        config.train.progressive_sizes, num_epochs=config.train.epochs, image_size=config.data.image_size
    )


def require_same_images(prepared: Prepared, strategy: SingleProcess) -> None:
    """Refuse a run whose processes read different images. All processes call this.

    Raises:
        UserError: images were added or changed while the run began, or machines see different files.
    """
    every = strategy.gather_values(dict(prepared.fingerprints), "compare the images")

    def compare() -> None:
        for rank, fingerprints in enumerate(every):
            differing = [split for split in every[0] if fingerprints.get(split) != every[0][split]]
            if differing or len(fingerprints) != len(every[0]):
                raise UserError(
                    f"process {rank} reads other images of {prepared.data.name} than process 0"
                    f"{f' for {differing[0]}' if differing else ''}: files were changed while the run began, or the "
                    f"machines see different files. Repeat the command; give a folder that all machines see."
                )

    strategy.all_succeed(compare, "compare the images")


def _require_usable(config: Config) -> None:
    """Refuse a batch or a model that the synthetic set cannot be used with, before minutes of drawing."""
    require_full_step(config.train.global_batch, config.data.synthetic.train)
    require_trainable(build_model(config, NUM_CLASSES, torch.device("cpu")))


def choose_num_threads(wanted: int | Literal["auto"], automatic: int, *, exact: bool) -> int:
    """Threads of one operation on the CPU.

    The number of threads decides the order of a sum: in exact mode `auto` is the same on every machine.

    Args:
        wanted: train.num_threads.
        automatic: this process's share of the cores.
        exact: whether exact mode is on.
    """
    if wanted != "auto":
        return wanted
    return EXACT_NUM_THREADS if exact else automatic


def _kept_micro_batch(global_batch: int, earlier: int | None, strategy: SingleProcess) -> int | None:
    """The micro-batch of an earlier attempt, if each process of this attempt gets at least one; else None."""
    if earlier is None or global_batch % earlier:
        return None
    return earlier if global_batch // earlier >= strategy.world_size * strategy.num_replicas else None


def build_model(config: Config, num_classes: int, device: torch.device) -> nn.Module:
    """The model of a config on `device`. Its initial weights depend on the config's seed only."""
    torch.manual_seed(stream_key(config.seed, Stream.WEIGHTS))
    model = create_model(config.model, num_classes=num_classes, image_size=config.data.image_size)
    if config.model.gradient_checkpointing:
        recompute_blocks(model, config.model.name)
    layout = layout_of(config.train.channels_last)
    return model.to(device=device, memory_format=layout)  # type: ignore[call-overload, no-any-return]


def layout_of(channels_last: bool) -> torch.memory_format:
    """torch's memory format for `train.channels_last`."""
    return torch.channels_last if channels_last else torch.contiguous_format
