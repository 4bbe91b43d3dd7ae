"""One run: from a config to a run folder with weights and numbers. Read it from top to bottom."""

from __future__ import annotations

import shlex
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from signs_dist.checkpoint import weights_sha256
from signs_dist.config import Config
from signs_dist.config_source import dump_config
from signs_dist.console import Screen
from signs_dist.context import Context
from signs_dist.data.loader import choose_loader_settings
from signs_dist.data.plan import BalancedOrder, EpochPlan, cut_global_batch
from signs_dist.data.randomness import Stream, stream_key
from signs_dist.data.sets import DataSet, open_data_set, open_split
from signs_dist.errors import StoppedError, UserError
from signs_dist.heartbeat import Pulse
from signs_dist.interrupt import StopRequest
from signs_dist.models import create_model
from signs_dist.models.determinism import require_deterministic
from signs_dist.models.trainable import count_parameters, require_trainable
from signs_dist.precision import choose_precision, find_capability
from signs_dist.rundir import RunFolder, describe_machine, timestamp
from signs_dist.strategy import SingleProcess, choose_exact_kernels, convert_sync_batchnorm
from signs_dist.supervise import Supervisor
from signs_dist.trainer import RunParts, Trainer


def train(
    config: Config,
    run_path: Path,
    *,
    strategy: SingleProcess,
    devices: str,
    context: Context,
    screen: Screen,
    supervisor: Supervisor,
    command: Sequence[str],
) -> dict[str, Any]:
    """Train by `config`, leaving everything in a new run folder. Called by all processes of the run alike.

    Nothing is left behind if the data or the model cannot be used: the folder is made when both are ready.

    Args:
        config: all settings.
        run_path: the run folder to make.
        strategy: how processes and devices share the work.
        devices: what this process computes on, for people.
        context: where this process runs.
        screen: what a person sees.
        supervisor: watches this process and tells what breaks.
        command: the command line, for the manifest.

    Returns:
        The contents of result.json.

    Raises:
        UserError: the data, the model or the run folder cannot be used.
        TrainingFailedError: the loss is no longer a number.
        StoppedError: the user asked to stop.
    """
    started = time.perf_counter()
    pulse = supervisor.pulse
    pulse.enter("prepare")
    run_path = Path(strategy.share_value(str(run_path), "agree on the run folder"))
    parts, manifest = strategy.all_succeed(
        lambda: prepare_run(
            config,
            run_path,
            strategy=strategy,
            devices=devices,
            context=context,
            screen=screen,
            pulse=pulse,
        ),
        "wait for all to prepare",
    )
    trainer = strategy.all_succeed(lambda: _make_trainer(parts), "wait for all to be ready")
    if config.exact:
        _require_same_start(parts)
    strategy.all_succeed(parts.folder.create if strategy.is_main else lambda: None, "make the run folder")
    parts.folder.write_config(dump_config(config))
    everywhere = strategy.gather_values({"host": context.host, "device": devices}, "gather devices")
    parts.folder.write_manifest(
        describe_machine(command)
        | manifest
        | {"processes": everywhere, "usable_cores": context.usable_cores, "threads": parts.num_threads}
    )
    log = parts.folder.logs / f"rank{context.rank}.log"
    with screen.logging_to(log), supervisor.watching(parts.folder.logs, log):
        screen.banner(describe_run(parts))
        return _attempt(parts, trainer, started)


def prepare_run(
    config: Config,
    run_path: Path,
    *,
    strategy: SingleProcess,
    devices: str,
    context: Context,
    screen: Screen,
    pulse: Pulse,
) -> tuple[RunParts, dict[str, Any]]:
    """Everything that a run is made of, and what the manifest says about its data; arguments as in `train`.

    Raises:
        UserError: the data or the model cannot be used.
    """
    # Another number of threads adds in another order: in exact mode it must not depend on the machine.
    automatic = 1 if config.exact else context.num_threads
    threads = automatic if config.train.num_threads == "auto" else config.train.num_threads
    torch.set_num_threads(threads)
    if config.exact:
        choose_exact_kernels()
    # What is quick to refuse comes before what is slow to prepare, here and below.
    micro_batches = cut_global_batch(
        config.train.global_batch,
        config.train.micro_batch,
        strategy.world_size,
        num_replicas=strategy.num_replicas,
    )
    precision = choose_precision(config.train.precision, find_capability(strategy.device))
    with screen.preparing() as report:
        data = open_data_set(config.data, num_processes=context.cores_per_process, report=report)
        plan = EpochPlan(
            len(data.splits["train"]),
            config.train.global_batch,
            config.seed,
            micro_batch=micro_batches.size,
            order=BalancedOrder(data.splits["train"].labels, config.seed) if config.data.order == "balanced" else None,
        )
        model = build_model(config, len(data.classes), strategy.device)
        require_trainable(model)
        if config.train.sync_batchnorm:
            model = convert_sync_batchnorm(model, strategy, micro_batches.counts(strategy.world_size))
        if config.exact:
            require_deterministic(model, strategy.device.type)
        sources = {
            name: open_split(
                index,
                config.data,
                num_threads=context.cores_per_process,
                report=report,
                augment=config.augment if name == "train" else None,
                seed=config.seed,
            )
            for name, index in data.splits.items()
        }
    settings = choose_loader_settings(
        config.data,
        usable_cores=context.cores_per_process,
        on_gpu=strategy.device.type == "cuda",
        per_sample_work=config.data.storage == "files" or config.augment.backend == "torchvision",
    )
    parts = RunParts(
        config=config,
        folder=RunFolder(run_path, is_writer=strategy.is_main),
        data=data,
        sources={name: source for name, (source, _) in sources.items()},
        plan=plan,
        settings=settings,
        model=model,
        precision=precision,
        strategy=strategy,
        screen=screen,
        num_threads=threads,
        devices=devices,
        pulse=pulse,
        stop=StopRequest(),
    )
    return parts, describe_data(data, {name: mark for name, (_, mark) in sources.items()})


def _make_trainer(parts: RunParts) -> Trainer:
    trainer = Trainer(parts)
    if parts.config.exact:
        trainer.require_same_bits()
    return trainer


def _require_same_start(parts: RunParts) -> None:
    """Exact mode relies on equal initial weights on all processes; fast mode copies those of the first."""
    marks = parts.strategy.gather_values(weights_sha256(parts.model.state_dict()), "compare initial weights")
    if len(set(marks)) > 1:
        others = [rank for rank, mark in enumerate(marks) if mark != marks[0]]
        raise UserError(
            f"exact=true cannot hold: the weights start otherwise on rank {', '.join(map(str, others))} than on "
            f"rank 0. Its initial weights must be drawn from torch's generator only."
        )


def _attempt(parts: RunParts, trainer: Trainer, started: float) -> dict[str, Any]:
    """Train to the end, with a line in attempts.jsonl at the start and at the end, whatever the end is."""
    folder = parts.folder
    folder.append(folder.attempts, {"attempt": 1, "event": "start", "time": timestamp(), "first_step": 0})
    try:
        with parts.stop.handling():
            result = trainer.train_all(started)
    except BaseException as error:
        stopped = isinstance(error, (KeyboardInterrupt, StoppedError))
        if stopped and (folder.checkpoints / "last.pt").is_file():
            what = str(error) or f"stopped at once after step {trainer.steps_done:,}; the last whole epoch"
            parts.screen.result(f"{what}; what there is, is in {folder.path}:")
            parts.screen.result(f"python -m signs_dist.evaluate {shlex.quote(str(folder.path))} --weights last")
        parts.screen.log_only(traceback.format_exc())
        folder.append(
            folder.attempts, trainer.attempt_end("interrupted" if stopped else f"{type(error).__name__}: {error}")
        )
        raise
    folder.append(folder.attempts, trainer.attempt_end("finished"))
    return result


def describe_data(data: DataSet, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """The manifest's part on the data: enough to find them again and to know them."""
    about = {"name": data.name, "root": str(data.root.resolve()), "classes": list(data.classes)}
    return {"data": about | {"fingerprints": dict(fingerprints)}}


def build_model(config: Config, num_classes: int, device: torch.device) -> nn.Module:
    """The model of a config with its initial weights, a function of the seed alone, on `device`."""
    torch.manual_seed(stream_key(config.seed, Stream.WEIGHTS))
    model = create_model(config.model, num_classes=num_classes, image_size=config.data.image_size)
    layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
    return model.to(device=device, memory_format=layout)  # type: ignore[call-overload, no-any-return]


def describe_run(parts: RunParts) -> list[tuple[str, str]]:
    """The banner: what is about to happen, on what, where, and the batch arithmetic."""
    config, data, plan, settings = parts.config, parts.data, parts.plan, parts.settings
    total, trainable = count_parameters(parts.model)
    strategy, micro_batches = parts.strategy, parts.plan.micro_batches
    counts = ", ".join(f"{len(index):,} {name}" for name, index in data.splits.items())
    side = config.data.image_size
    steps, batch, epochs = plan.num_steps, plan.global_batch, config.train.epochs
    left_out = f", {plan.num_left_out} left out of each (rotating)" if plan.num_left_out else ""
    plural = "s" if settings.num_workers > 1 else ""
    workers = f"{settings.num_workers} loader worker{plural}" if settings.num_workers else "loaded in this process"
    threads = "1 thread" if parts.num_threads == 1 else f"{parts.num_threads} threads"
    frozen = f", {trainable:,} of them trainable" if trainable != total else ""
    return [
        ("run", str(parts.folder.path)),
        ("data", f"{data.name}: {counts} images of {side} x {side}, {len(data.classes)} classes; {workers}"),
        ("model", f"{config.model.name}, {total:,} parameters{frozen}"),
        ("on", f"{parts.devices}, {threads} a process, {parts.precision.name}"),
        *([("by", strategy.describe())] if strategy.describe() else []),
        ("batch", f"{micro_batches.describe(strategy.world_size)}; {steps:,} steps an epoch{left_out}"),
        *([("exact", "bit for bit the same for 1 to " + f"{micro_batches.count} processes")] if config.exact else []),
        ("plan", f"{epochs} epochs = {epochs * steps:,} steps = {epochs * steps * batch:,} images, seed {config.seed}"),
        (
            "learn",
            f"{config.loss.name}, {config.optim.name} with lr {config.optim.lr:g} (as written, no scaling), "
            f"{config.schedule.name}",
        ),
    ]
