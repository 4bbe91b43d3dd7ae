"""One run: from a config to a run folder with weights and numbers. Read it from top to bottom."""

from __future__ import annotations

import contextlib
import shlex
import time
import traceback
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from signs_dist.checkpointing.store import CheckpointStore, Stage, no_stage
from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.config.reading import dump_config
from signs_dist.config.settings import Config
from signs_dist.console.screen import Screen
from signs_dist.data.loader import choose_loader_settings
from signs_dist.data.plan import BalancedOrder, EpochPlan, cut_global_batch
from signs_dist.data.randomness import Stream, stream_key
from signs_dist.data.sets import DataSet, open_data_set, open_split
from signs_dist.distributed.exactness import choose_exact_kernels
from signs_dist.distributed.strategy import SingleProcess, convert_sync_batchnorm
from signs_dist.environment.context import Context
from signs_dist.errors import StoppedError, UserError
from signs_dist.learning.precision import choose_precision, find_capability
from signs_dist.models import create_model
from signs_dist.models.determinism import require_deterministic
from signs_dist.models.trainable import count_parameters, require_trainable
from signs_dist.models.weights import named_weights
from signs_dist.monitoring.pulse import Pulse
from signs_dist.monitoring.signals import StopRequest
from signs_dist.run_folder.folder import RunFolder, describe_machine
from signs_dist.training.attempt import begin_attempt, find_resumed, go_on, take_lease
from signs_dist.training.supervisor import Supervisor
from signs_dist.training.trainer import RunParts, Trainer


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
    accepted: Collection[str] = (),
    at_stage: Stage = no_stage,
) -> dict[str, Any]:
    """Train by `config`, leaving everything in a run folder: a new one, or one whose run is not finished yet.

    Called by all processes of the run alike. Nothing is left behind if the data or the model cannot be used: a new
    folder is made when both are ready.

    Args:
        config: all settings.
        run_path: the run folder to make.
        strategy: how processes and devices share the work.
        devices: what this process computes on, for people.
        context: where this process runs.
        screen: what a person sees.
        supervisor: watches this process and tells what breaks.
        command: the command line, for the manifest.
        accepted: settings that may differ from those that the run was begun with.
        at_stage: called with the name of each stage of a save, for those who break off there.

    Returns:
        The contents of result.json.

    Raises:
        UserError: the data, the model or the run folder cannot be used.
        TrainingFailedError: the loss is no longer a number.
        SaveError: a checkpoint could not be written.
        StoppedError: a signal asked to stop.
    """
    started = time.perf_counter()
    pulse = supervisor.pulse
    pulse.enter("prepare")
    run_path = Path(strategy.share_value(str(run_path), "agree on the run folder"))
    with contextlib.ExitStack() as cleanup:
        resumed = find_resumed(config, run_path, accepted, strategy=strategy, context=context, cleanup=cleanup)
        parts, manifest = strategy.all_succeed(
            lambda: prepare_run(
                config,
                run_path,
                strategy=strategy,
                devices=devices,
                context=context,
                screen=screen,
                pulse=pulse,
                micro_batch=resumed.micro_batch,
                at_stage=at_stage,
            ),
            "wait for all to prepare",
        )
        trainer = strategy.all_succeed(lambda: _make_trainer(parts), "wait for all to be ready")
        if config.exact:
            _require_same_start(parts)
        strategy.all_succeed(
            lambda: go_on(resumed, config, parts, trainer, manifest, accepted), "take up the checkpoint"
        )
        strategy.all_succeed(parts.folder.create if strategy.is_main else lambda: None, "make the run folder")
        trainer.lease = resumed.lease
        if not resumed.is_begun:
            trainer.lease = strategy.all_succeed(
                lambda: take_lease(parts.folder, config, context, strategy, cleanup), "take the run folder"
            )
        everywhere = strategy.gather_values({"host": context.host, "device": devices}, "gather devices")
        about = (
            describe_machine(command)
            | manifest
            | {"processes": everywhere, "usable_cores": context.usable_cores, "threads": parts.num_threads}
        )
        parts.folder.write_manifest(about)
        parts.folder.write_config(dump_config(config))  # last: from now on a run was begun here
        attempt = begin_attempt(parts, trainer, resumed, about, context)
        log = parts.folder.logs / f"rank{context.rank}.log"
        with screen.logging_to(log), supervisor.watching(parts.folder.logs, log, attempt):
            screen.banner(describe_run(parts, resumed.describe(trainer, attempt)))
            for note in resumed.notes:
                screen.result(note)
            return _attempt(parts, trainer, attempt, started, supervisor)


def prepare_run(
    config: Config,
    run_path: Path,
    *,
    strategy: SingleProcess,
    devices: str,
    context: Context,
    screen: Screen,
    pulse: Pulse,
    micro_batch: int | None = None,
    at_stage: Stage = no_stage,
) -> tuple[RunParts, dict[str, Any]]:
    """Everything that a run is made of, and what the manifest says about its data; arguments as in `train`.

    `micro_batch` is that of an earlier attempt, kept where the config leaves it open and the processes allow it.
    `at_stage` is called at each stage of a save.

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
        config.train.micro_batch or _kept_micro_batch(config, micro_batch, strategy),
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
            max_steps=config.train.epoch_steps,
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
        stop=StopRequest(is_alone=strategy.world_size == 1),
        kill_seconds=context.kill_seconds,
        killer="SLURM" if context.is_by_slurm else "torchrun",
        store=CheckpointStore(run_path / "checkpoints", config.checkpoint.keep, at_stage=at_stage),
    )
    return parts, describe_data(data, {name: mark for name, (_, mark) in sources.items()})


def _make_trainer(parts: RunParts) -> Trainer:
    trainer = Trainer(parts)
    if parts.config.exact:
        trainer.require_same_bits()
    return trainer


def _require_same_start(parts: RunParts) -> None:
    """Exact mode relies on equal initial weights on all processes; fast mode copies those of the first."""
    marks = parts.strategy.gather_values(weights_sha256(named_weights(parts.model)), "compare initial weights")
    if len(set(marks)) > 1:
        others = [rank for rank, mark in enumerate(marks) if mark != marks[0]]
        raise UserError(
            f"exact=true cannot hold: the weights start otherwise on rank {', '.join(map(str, others))} than on "
            f"rank 0. Its initial weights must be drawn from torch's generator only."
        )


def _attempt(parts: RunParts, trainer: Trainer, attempt: int, started: float, supervisor: Supervisor) -> dict[str, Any]:
    """Train to the end, with a line in attempts.jsonl at the end, whatever the end is."""
    folder = parts.folder

    def write_end(reason: str, *, is_saved: bool = False) -> None:
        with contextlib.suppress(UserError, OSError):  # a full disk must not hide the error itself
            folder.append(folder.attempts, trainer.attempt_end(attempt, reason, is_saved=is_saved))

    try:
        with parts.stop.handling():
            result = trainer.train_all(started)
    except BaseException as error:
        stopped = isinstance(error, (KeyboardInterrupt, StoppedError))
        newest = parts.store.newest()
        if stopped and newest is not None:
            what = str(error) or f"stopped at once after step {trainer.steps_done:,}"
            took, limit = trainer.writer.last_write_seconds, parts.kill_seconds
            kills = f"; {parts.killer} kills its processes {limit:g} s after SIGTERM" if limit is not None else ""
            is_saved = not isinstance(error, StoppedError) or error.is_saved
            where = f"saved in {newest} within {took:.1f} s{kills}" if is_saved else f"the newest save is {newest}"
            parts.screen.result(f"{what}; {where}")
            parts.screen.result(
                f"the same command with --run-dir {shlex.quote(str(folder.path))} goes on, on any number of processes"
            )
        parts.screen.log_only(traceback.format_exc())
        if stopped:
            write_end(str(error) or "interrupted", is_saved=isinstance(error, StoppedError) and error.is_saved)
        else:
            supervisor.when_known = write_end  # which process broke, and how, is known when all have spoken
        raise
    write_end("finished", is_saved=True)
    return result


def _kept_micro_batch(config: Config, earlier: int | None, strategy: SingleProcess) -> int | None:
    """The micro-batch of an earlier attempt, if there are enough of them for the processes of this one."""
    if earlier is None or config.train.global_batch % earlier:
        return None
    return earlier if config.train.global_batch // earlier >= strategy.world_size * strategy.num_replicas else None


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


def describe_run(parts: RunParts, again: Sequence[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """The banner: what is about to happen, on what, where, the batch arithmetic, and where an earlier attempt was."""
    config, data, plan, settings = parts.config, parts.data, parts.plan, parts.settings
    total, trainable = count_parameters(parts.model)
    strategy, micro_batches = parts.strategy, parts.plan.micro_batches
    counts = ", ".join(f"{len(index):,} {name}" for name, index in data.splits.items())
    side = config.data.image_size
    steps, batch, epochs = plan.num_steps, plan.global_batch, config.train.epochs
    left_out = f", {plan.num_left_out:,} left out of each (rotating)" if plan.num_left_out else ""
    num_epochs = "1 epoch" if epochs == 1 else f"{epochs} epochs"
    plural = "s" if settings.num_workers > 1 else ""
    workers = f"{settings.num_workers} loader worker{plural}" if settings.num_workers else "loaded in this process"
    threads = "1 thread" if parts.num_threads == 1 else f"{parts.num_threads} threads"
    frozen = f", {trainable:,} of them trainable" if trainable != total else ""
    return [
        ("run", str(parts.folder.path)),
        *again,
        ("data", f"{data.name}: {counts} images of {side} x {side}, {len(data.classes)} classes; {workers}"),
        ("model", f"{config.model.name}, {total:,} parameters{frozen}"),
        ("on", f"{parts.devices}, {threads} a process, {parts.precision.name}"),
        *([("by", strategy.describe())] if strategy.describe() else []),
        ("batch", f"{micro_batches.describe(strategy.world_size)}; {steps:,} steps an epoch{left_out}"),
        *([("exact", "bit for bit the same for 1 to " + f"{micro_batches.count} processes")] if config.exact else []),
        ("plan", f"{num_epochs} = {epochs * steps:,} steps = {epochs * steps * batch:,} images, seed {config.seed}"),
        (
            "learn",
            f"{config.loss.name}, {config.optim.name} with lr {config.optim.lr:g} (as written, no scaling), "
            f"{config.schedule.name}",
        ),
    ]
