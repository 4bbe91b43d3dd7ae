"""The command `replay` after its flags: choose the steps, replay them, show and write what was seen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from signs_dist.console.screen import duration
from signs_dist.environment.subprocesses import count_processes
from signs_dist.errors import EXIT_OK, CheckpointError, UserError
from signs_dist.files import require_writable, write_json
from signs_dist.monitoring.plain_text import without_control
from signs_dist.replaying.evidence import Recorded, judge, read_recorded
from signs_dist.replaying.first_bad import FirstBad, find_first_bad
from signs_dist.replaying.pages import make_sections
from signs_dist.replaying.picture import write_picture
from signs_dist.replaying.records import Step
from signs_dist.replaying.request import (
    FailedMicroBatch,
    Request,
    check_micro_batch,
    check_processes,
    checked_steps,
    read_failure,
)
from signs_dist.replaying.run import Looked, Replayed
from signs_dist.replaying.saved import save_tensors
from signs_dist.replaying.scope import BANNER, make_scope
from signs_dist.replaying.shell import open_shell
from signs_dist.replaying.starting import replay_here, replay_on
from signs_dist.replaying.told import as_json, describe_failure, describe_step, describe_verdict
from signs_dist.retraining.recorded_run import RecordedRun, State, read_recorded_run

Finish = Callable[[State, Replayed, Looked | None], bool]
NUM_TRIES = 3
"""How often a state is chosen: a run that trains meanwhile deletes its old checkpoints."""


def replay_command(options: argparse.Namespace) -> bool:
    """Replay as the flags say.

    Returns:
        Whether the steps are those of the run as far as they should be, a failure came again, and the program of
        `--shell` ended well.

    Raises:
        UserError: the flags, the run or its images cannot be used.
    """
    run = read_recorded_run(options.run_dir)
    failed = read_failure(run.path) if options.failure else []
    request = make_request(options, run, failed)
    shown_first = failed[0].run_step(run.num_steps) if failed else request.first
    picture = options.images or default_picture(run.path, shown_first)
    _check_outputs({"--images": picture, "--save": options.save, "--json": options.json}, run.path)
    recorded = read_recorded(run.folder)
    for note in (*run.notes, *_notes_on_place(run, request, recorded, has_failed=bool(failed))):
        _tell(f"note: {note}")

    def finish(start: State, found: Replayed, looked: Looked | None) -> bool:
        steps = found.steps
        if failed and len(steps) > 1 and steps[0].is_finite:
            steps = steps[1:]  # before the failure all was finite: there is nothing to see
        verdict = judge(found.compared, steps[0].step, steps[-1].step)
        first_bad = find_first_bad(steps)
        _tell(_about(run, start, found, options.processes))
        _tell_steps(run, steps, found, first_bad)
        is_again = True
        if failed:
            is_again, told = describe_failure(failed, steps[-1], found.compared, recorded.last_step)
            _tell(told)
        title = f"{run.path.resolve().name}: images as they went into the network"
        write_picture(picture, title, make_sections(steps, found.files, found.classes, found.factor, found.offset))
        _tell(f"images: {picture}")
        if options.save is not None:
            save_tensors(options.save, run.path, steps, found.files, found.classes)
            _tell(f"tensors: {options.save}")
        if options.json is not None:
            about = {"run": str(run.path), "from_step": start.steps_done, "processes": options.processes}
            write_json(options.json, as_json(about, steps, found.files, found.classes, first_bad, verdict))
            _tell(f"numbers: {options.json}")
        _tell(describe_verdict(verdict, steps[0].step, steps[-1].step))
        code = _open_shell(looked, run) if looked is not None else EXIT_OK
        return verdict.is_as_expected and is_again and code == EXIT_OK

    return _replay(run, request, recorded, options, finish)


def make_request(options: argparse.Namespace, run: RecordedRun, failed: list[FailedMicroBatch]) -> Request:
    """What the flags ask for.

    Raises:
        UserError: the run has no such step or micro-batch, or a step has fewer micro-batches than processes.
    """
    if failed:
        step = failed[0].run_step(run.num_steps)
        first, last = max(1, step - 1), step
    else:
        first, last = checked_steps(options.step, options.until, *_last_step(run))
    count = run.config.train.global_batch // run.micro_batch
    check_processes(options.processes, count)
    check_micro_batch(options.micro_batch, count)
    return Request(
        run_dir=str(run.path),
        first=first,
        last=last,
        micro_batch=options.micro_batch,
        data=str(options.data) if options.data is not None else None,
        device=options.device,
        keeps_tensors=options.save is not None or options.shell,
        checks=options.check,
    )


def _last_step(run: RecordedRun) -> tuple[int | None, str]:
    """The last step of a run, and where it is from. None where nothing tells how many steps an epoch has."""
    if run.result is not None and isinstance(run.result.get("steps"), int):
        return run.result["steps"], ""
    if run.num_steps is None:
        return None, ""
    epochs = run.config.train.epochs
    return epochs * run.num_steps, f" ({epochs} epochs of {run.num_steps} steps)"


def _notes_on_place(run: RecordedRun, request: Request, recorded: Recorded, *, has_failed: bool) -> list[str]:
    if run.result is None and not has_failed and 0 < recorded.last_step < request.first:
        return [f"the last line of the run's metrics.jsonl is about step {recorded.last_step:,}"]
    return []


def _check_outputs(outputs: dict[str, Path | None], run_dir: Path) -> None:
    """Refuse a file that cannot be written, lies in the run folder or is given twice. Raises `UserError`."""
    given: dict[Path, str] = {}
    for flag, path in outputs.items():
        if path is not None and path.resolve().is_relative_to(run_dir.resolve()):
            raise UserError(
                f"{flag} {path} lies in the run folder, into which replay writes nothing. Type a path outside of "
                f"{run_dir}."
            )
        try:
            require_writable(path)
        except UserError as error:
            raise UserError(f"{flag}: {error}") from error
        if path is None or (path.exists() and not path.is_file()):  # a device or a pipe may be named twice
            continue
        if (other := given.setdefault(path.resolve(), flag)) != flag:
            raise UserError(f"{other} and {flag} both name {path}. Type another file for one of them.")


def default_picture(run_dir: Path, step: int) -> Path:
    """Where the picture goes without `--images`. A long name of a run is cut: a name has at most 255 bytes."""
    name = run_dir.resolve().name.encode(errors="surrogateescape")[:200].decode(errors="ignore")
    return Path(f"replay-{name}-step-{step}.png")


def _replay(
    run: RecordedRun, request: Request, recorded: Recorded, options: argparse.Namespace, finish: Finish
) -> bool:
    """Replay from the newest whole state before the steps. Returns what `finish` returns."""
    for attempt in range(1, NUM_TRIES + 1):
        start, notes = run.newest_before(request.first - 1)
        for note in notes:
            from_where = f"step {start.steps_done:,}" if start.path is not None else "the beginning"
            _tell(f"note: {note} The replay begins at {from_where} instead.")
        try:
            return _replay_from(start, run, request, recorded, options, finish)
        except (UserError, CheckpointError):
            if attempt == NUM_TRIES or start.path is None or start.path.exists():
                raise
        run = read_recorded_run(run.path)
    raise AssertionError


def _replay_from(
    start: State,
    run: RecordedRun,
    request: Request,
    recorded: Recorded,
    options: argparse.Namespace,
    finish: Finish,
) -> bool:
    if options.processes > 1:
        return finish(start, replay_on(options.processes, start, request, recorded), None)
    shows, finished = sys.stderr.isatty(), list[bool]()
    if not options.shell:
        return finish(start, replay_here(run, start, request, recorded, shows=shows), None)

    def look(looked: Looked, found: Replayed) -> None:
        finished.append(finish(start, found, looked))

    replay_here(run, start, request, recorded, look, shows=shows)
    return finished[0]


def _tell_steps(run: RecordedRun, steps: Sequence[Step], found: Replayed, first_bad: FirstBad | None) -> None:
    for step in steps:
        _tell("")
        for line in describe_step(step, found.files, found.classes, run.config.optim.clip_norm):
            _tell(line)
    _tell("")
    if first_bad is not None:
        _tell(f"first that is not finite: step {first_bad.step:,}, {first_bad.describe()}")


def _about(run: RecordedRun, start: State, found: Replayed, num_processes: int) -> str:
    source = f"{start.path}, after step {start.steps_done:,}" if start.path is not None else "the beginning"
    trained = f"{found.trained_steps:,} steps" if found.trained_steps != 1 else "1 step"
    here = count_processes(num_processes)
    return f"{run.path}: from {source}: {trained} in {duration(found.seconds)} on {here}; the run used {run.world_size}"


def _open_shell(looked: Looked, run: RecordedRun) -> int:
    return open_shell(make_scope(looked, run), BANNER, sys.stdin)


def _tell(line: str) -> None:
    print("\n".join(without_control(each) for each in line.split("\n")))
