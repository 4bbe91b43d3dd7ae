"""One run, from a config to a run folder with weights and scores. Read this file from top to bottom."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shlex
import time
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from signs_dist.checkpointing.resume_rules import finished_line
from signs_dist.config.reading import dump_config
from signs_dist.config.settings import Config
from signs_dist.data.sources.division_file import COPY, to_text
from signs_dist.environment.core_use import CoreUse, told_busy_cores
from signs_dist.errors import CommandError, LoadingError, StoppedError
from signs_dist.files import write_text
from signs_dist.monitoring.signals import StopRequest
from signs_dist.reporting.after_training import ReportProcess, is_wanted, seconds_for
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.manifest import describe_invocation
from signs_dist.run_folder.records import StartLine, of_kind
from signs_dist.run_folder.subject import Subject
from signs_dist.run_folder.suspects import clear_suspicion
from signs_dist.tracking.beside import fed_dashboards
from signs_dist.training.arithmetic_changes import noted, read_fingerprint
from signs_dist.training.arithmetic_probe import name_only, tell_of_ranks
from signs_dist.training.attempt_log import begin_attempt, end_attempt, wind_back
from signs_dist.training.autotune import with_fastest_way
from signs_dist.training.banner import banner_lines
from signs_dist.training.cached_features import with_features
from signs_dist.training.earlier_attempt import (
    EarlierAttempt,
    agree_on_folder,
    find_earlier_attempt,
    naming,
    resume_from,
)
from signs_dist.training.exact_trial import require_exact, second_process
from signs_dist.training.falling_back import fall_back, set_broken_aside
from signs_dist.training.prepare import Prepared, prepare, require_same_images
from signs_dist.training.process import Process
from signs_dist.training.profiling import StepProfiler
from signs_dist.training.run_state import RunState, make_run_state
from signs_dist.training.saver import Saver
from signs_dist.training.state_chain import make_chain
from signs_dist.training.stepper import Stepper
from signs_dist.training.subject_of_run import find_subject
from signs_dist.training.supervisor import Supervisor
from signs_dist.training.trainer import Trainer
from signs_dist.training.training_images import write_training_images


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is ready to train."""

    folder: RunFolder
    process: Process
    stepper: Stepper
    run_state: RunState
    saver: Saver
    stop: StopRequest
    command: Sequence[str]


def train(
    config: Config,
    run_path: Path,
    *,
    process: Process,
    supervisor: Supervisor,
    command: Sequence[str],
    accepted: Collection[str] = (),
    is_new_folder: bool = False,
    profile_steps: int | None = None,
) -> dict[str, Any]:
    """Train a run, or resume it, and write all results into its run folder.

    All processes of the run call this with the same arguments. A new folder is removed again if data and model cannot
    be made ready.

    Args:
        config: all settings.
        run_path: the run folder.
        process: where this process runs.
        supervisor: watches this process and reports errors.
        command: the command line, for the manifest.
        accepted: names of settings that may differ from the settings of earlier attempts.
        is_new_folder: whether the run folder must be a new one: if it exists, a number is appended to its name.
        profile_steps: how many steps to trace; None: none.

    Returns:
        The contents of result.json, and `run_dir`. A finished run is not trained again.

    Raises:
        UserError: the data, the model or the run folder cannot be used.
        TrainingFailedError: the loss is not a finite number, or another run has taken over the folder.
        SaveError: a checkpoint could not be written.
        StoppedError: a signal asked to stop.
    """
    started, use = time.perf_counter(), CoreUse.read()
    strategy, context = process.strategy, process.context
    process.pulse.enter("prepare")
    with contextlib.ExitStack() as cleanup:
        folder = agree_on_folder(run_path, process, cleanup, is_new=is_new_folder)
        earlier = find_earlier_attempt(config, folder, accepted, process, cleanup)
        if earlier.result is not None:
            process.screen.result(finished_line(folder.path))
            return {**earlier.result, "run_dir": folder.path}
        second = cleanup.enter_context(second_process(config, process))
        with naming(earlier.notes):
            prepared = strategy.all_succeed(
                lambda: prepare(
                    config,
                    process,
                    micro_batch=earlier.micro_batch,
                    division=folder.path / COPY if earlier.is_begun else None,
                ),
                "wait for all to prepare",
            )
            require_same_images(prepared, strategy)
            with prepared.data.inspection_advised():
                prepared = with_features(prepared, process)
            prepared = with_fastest_way(prepared, process)
            run = strategy.all_succeed(
                lambda: _make_run(prepared, process, folder, command, earlier), "wait for all to be ready"
            )
            if strategy.world_size == 1:
                # A program that calls `fit` may keep an error, whose traceback keeps the loaders: end their workers.
                cleanup.callback(run.stepper.close)
            with noted(folder, process):
                if config.exact:
                    before = read_fingerprint(earlier.content)
                    run.stepper.trial = require_exact(run.stepper, process, second, before)
                else:
                    run.stepper.arithmetic = name_only(prepared, strategy.device)
                earlier = fall_back(earlier, config, folder, run.stepper, accepted, process)
                earlier = strategy.all_succeed(
                    lambda: resume_from(earlier, run.run_state, run.stepper, accepted),
                    "load the checkpoint",
                )
        earlier = strategy.all_succeed(lambda: set_broken_aside(earlier, config, folder), "set broken files aside")
        # One process reads the images for all.
        has_subject = config.exact and folder.is_writer
        subject = strategy.all_succeed(
            lambda: find_subject(prepared, process) if has_subject else None, "read the images"
        )
        # To the end: until the attempt has its last line in attempts.jsonl, a signal sets a flag and nothing else.
        cleanup.enter_context(run.stop.handling())
        attempt = _begin(run, earlier, subject)
        log = folder.logs / f"rank{context.rank}.log"
        with process.screen.logging_to(log), supervisor.watching(folder.logs, log, attempt):
            again = earlier.banner_lines(run.run_state, run.stepper, attempt)
            # Without the other processes of this run on the machine, which use cores too and are no other programs.
            busy = told_busy_cores(use, prepared.way.num_threads) if strategy.world_size == 1 else ""
            process.screen.banner(banner_lines(prepared, process, folder.path, again, busy))
            for note in earlier.notes:
                process.screen.result(note)
            cleanup.enter_context(fed_dashboards(folder, config.log.to, process.screen.result))
            profiler = None
            if profile_steps is not None:
                told = functools.partial(_describe_step, run.stepper)
                profiler = StepProfiler(profile_steps, folder.path, process, describe_step=told)
            parts = (run.stepper, run.run_state, run.saver, process, folder)
            trainer = Trainer(*parts, stop=run.stop, lease=earlier.lease, profiler=profiler)
            result = _train(run, trainer, attempt, started, supervisor, cleanup)
            return {**result, "run_dir": folder.path}


def _make_run(
    prepared: Prepared, process: Process, folder: RunFolder, command: Sequence[str], earlier: EarlierAttempt
) -> Run:
    config = prepared.config
    stop = StopRequest(is_alone=process.strategy.world_size == 1)
    saver = Saver(folder, config.checkpoint, process, last_write_seconds=earlier.last_write_seconds)
    stepper = Stepper(prepared, process, wishes=(lambda: stop.is_set, saver.timer.is_due))
    run_state = make_run_state(prepared)
    return Run(folder, process, stepper, run_state, saver, stop, command)


def _describe_plan(prepared: Prepared) -> dict[str, Any]:
    """The manifest's entry on the plan: with the config it decides which samples are computed together, and how."""
    return {
        "steps_of_epoch": prepared.plan.num_steps,
        "global_batch": prepared.plan.global_batch,
        "micro_batch": prepared.plan.micro_batches.size,
        "precision": prepared.precision.name,
    }


def _describe_step(stepper: Stepper) -> str:
    return stepper.graph.describe()


def _begin(run: Run, earlier: EarlierAttempt, subject: Subject | None) -> int:
    """Write the manifest, the config, and a line in attempts.jsonl. Returns the number of the attempt."""
    folder, prepared, strategy, context = run.folder, run.stepper.prepared, run.process.strategy, run.process.context
    where = {"host": context.host, "device": run.process.devices}
    arithmetic = run.stepper.arithmetic
    if arithmetic is not None and not prepared.config.exact:
        tell_of_ranks(arithmetic, run.process)
    about = {
        **describe_invocation(run.command),
        "data": prepared.about_data(),
        "processes": strategy.gather_values(where, "gather devices"),
        "usable_cores": context.usable_cores,
        "threads": prepared.way.num_threads,
        "plan": _describe_plan(prepared),
    }
    if subject is not None:
        about["subject"] = subject.as_dict()
    if about["code"]["why"]:
        run.process.screen.result(about["code"]["why"])
    kept = folder.set_result_aside()  # before the config, whose result it is not
    if kept:
        run.process.screen.result(f"trained further; the earlier result is kept: {', '.join(map(str, kept))}")
    folder.write_manifest({**about, "arithmetic": arithmetic.as_dict() if arithmetic is not None else None})
    if folder.is_writer and prepared.data.division is not None:
        folder.require_held()
        write_text(folder.path / COPY, to_text(prepared.data.division))
    folder.write_config(dump_config(prepared.config))  # after the manifest: a run with this file has begun
    number = 0
    if folder.is_writer:
        if earlier.is_begun:
            wind_back(folder, prepared.plan, run.run_state, earlier.saved_at)
            clear_suspicion(folder)  # not before: an attempt that is killed earlier leaves the note for the next one
        number = begin_attempt(folder, context, run.run_state).attempt
        starts = of_kind(folder.read_attempts(), StartLine)
        sizes = [line.world_size for line in starts]
        every_steps, num_steps = prepared.config.checkpoint.every_steps, prepared.plan.num_steps
        chain = make_chain(folder, subject, every_steps=every_steps, num_steps=num_steps)
        if chain is not None:
            chain.begin(earlier, run.run_state)
        run.saver.begin({**about, "attempts": number, "world_sizes": sizes}, earlier.path, chain)
    attempt: int = strategy.share_value(number, "agree on the attempt")
    return attempt


def _train(
    run: Run, trainer: Trainer, attempt: int, started: float, supervisor: Supervisor, cleanup: contextlib.ExitStack
) -> dict[str, Any]:
    """Train to the end. attempts.jsonl gets a last line for the attempt, also after an error, and then `cleanup`."""
    report: ReportProcess | None = None
    if run.folder.is_writer and is_wanted(run.stepper.prepared.config.log.report, os.environ):
        report = ReportProcess(run.folder.path)
        cleanup.callback(report.close)

    def write_end(reason: str, *, is_saved: bool = False) -> None:
        seconds = run.saver.timer.seconds
        with contextlib.suppress(CommandError, OSError):  # a full disk or a lost folder must not hide the error
            end_attempt(run.folder, attempt, run.run_state, reason, seconds_since_save=seconds, is_saved=is_saved)
            if report is not None:
                _write_report(run, report, is_finished=reason == "finished")

    def end_stuck(error: LoadingError) -> None:
        write_end(f"{type(error).__name__}: {error}")
        supervisor.end_stuck(error)

    if supervisor.may_end_process:
        run.stepper.when_loading_is_stuck(end_stuck)
    try:
        with run.stepper.prepared.data.inspection_advised():
            if run.run_state.steps_done == 0:
                # The other processes wait as long as it takes: in the first step they would give up.
                run.process.strategy.all_succeed(
                    lambda: write_training_images(run.folder, run.stepper, run.process), "write the training images"
                )
            result = trainer.train(started, before_results=report.start if report is not None else None)
    except BaseException as error:
        is_stopped = isinstance(error, (KeyboardInterrupt, StoppedError))
        if is_stopped:
            _tell_stop(run, error)
        run.process.screen.log_only(traceback.format_exc())
        if is_stopped:
            write_end(str(error) or "interrupted", is_saved=isinstance(error, StoppedError) and error.is_saved)
        else:
            held = cleanup.pop_all()  # the lease is held until the line is written

            def end(reason: str) -> None:
                with held:
                    write_end(reason)

            supervisor.when_known = end  # called when it is known which process failed, and why
        raise
    write_end("finished", is_saved=True)
    return result


def _write_report(run: Run, report: ReportProcess, *, is_finished: bool) -> None:
    """Write report.html. Only a finished run says where: others end with their error."""
    config = run.stepper.prepared.config
    run.folder.require_held()
    run.process.pulse.enter("write the report")
    limit = seconds_for(is_finished=is_finished, timeout_seconds=config.processes.timeout_seconds)
    told = report.write(limit)
    (run.process.screen.say if is_finished else run.process.screen.log_only)(told)


def _tell_stop(run: Run, error: BaseException) -> None:
    """Say where the run stopped, what is saved, and how to resume it."""
    newest = run.saver.newest()
    if newest is None:
        return
    screen, limit = run.process.screen, run.process.context.kill_seconds
    what = str(error) or f"stopped at once after step {run.run_state.steps_done:,}"
    kills = f"; {run.process.killer} kills its processes {limit:g} s after SIGTERM" if limit is not None else ""
    is_saved = not isinstance(error, StoppedError) or error.is_saved
    took = run.saver.last_write_seconds
    screen.result(
        f"{what}; saved in {newest} within {took:.1f} s{kills}" if is_saved else f"{what}; the newest save is {newest}"
    )
    screen.result(how_to_resume(run.command, run.folder.path, run.process.context.launcher))


def how_to_resume(command: Sequence[str], run_path: Path, launcher: str) -> str:
    """One line on how to resume a run that `command` started under `launcher`."""
    if list(command[:1]) != ["python"]:  # not a command line: a call of `fit`
        return f"to resume, repeat the call with run_dir={str(run_path)!r}"
    if launcher != "python":
        folder = shlex.quote(str(run_path))
        return f"to resume, on any number of processes, repeat the same command with --run-dir {folder}"
    is_named = any(word == "--run-dir" or word.startswith("--run-dir=") for word in command)
    words = command if is_named else [*command, "--run-dir", str(run_path)]
    return f"to resume, on any number of processes: {shlex.join(words)}"
