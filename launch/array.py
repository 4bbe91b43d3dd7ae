"""Submitting several runs as one array.

If the command is repeated with the same --run-dir, it submits only the trials that are missing or have failed.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from signs_dist import train
from signs_dist.environment.installation import spell
from signs_dist.errors import EXIT_OK, UserError
from signs_dist.run_folder.folder import RunFolder
from signs_dist.searching.grid import parse_grid

from . import check
from .claim import end_claim
from .flags import read_request
from .follow import follow_array
from .handover import (
    check_request,
    check_script,
    end_dry_run,
    handed_over,
    make_folder,
    make_job,
    make_new_run_folder,
    taken_back,
    tell,
    tell_differences,
)
from .jobs import note_job
from .program import typed
from .request import Request
from .schedulers import SCHEDULERS
from .schedulers.base import Submission
from .status import describe_array
from .trials import Trial, make_trials, write_trials


def submit_array(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Check an array, and hand over the trials that are not finished; with --wait follow them.

    `arguments` are those of signs_dist.train.
    """
    grid = parse_grid(options.array)
    first = read_request(options, [*arguments, *grid[0]])
    with taken_back(first.run_path) as new:
        first = make_new_run_folder(first, new)
        return _submit(first, make_trials(first.run_path, grid), options, arguments, new)


def submit_trials(
    options: argparse.Namespace, arguments: Sequence[str], settings: Mapping[str, tuple[str, ...]]
) -> int:
    """As `submit_array`, for runs whose settings and folders are given. A folder may get further runs later.

    Args:
        options: the flags of the submission.
        arguments: those of signs_dist.train; --run-dir names the folder of all runs.
        settings: name of each run's folder below it → the run's settings.
    """
    first = read_request(options, [*arguments, *next(iter(settings.values()))])
    trials = [Trial(first.run_path / name, each) for name, each in settings.items()]
    with taken_back(first.run_path) as new:
        return _submit(first, trials, options, arguments, new)


def _submit(
    first: Request,
    trials: Sequence[Trial],
    options: argparse.Namespace,
    arguments: Sequence[str],
    new: list[Path],
) -> int:
    """As `submit_array`, in the array's folder of `first`, which is the request of the first trial."""
    scheduler = SCHEDULERS[first.cluster.kind]
    _refuse_too_many(len(trials), first.cluster.kind)
    parallel = scheduler.choose_parallel(first.cluster, options.parallel)
    folder = first.run_path
    array = dataclasses.replace(
        first, arguments=tuple(arguments), overrides=first.overrides[: -len(trials[0].settings)]
    )
    requests = make_requests(array, trials)
    missing = [trial for trial in trials if not _has_result(requests[trial]) and not trial.is_alive]
    tell("array", [f"{len(trials)} trial{'' if len(trials) == 1 else 's'} in {folder}, {len(missing)} to submit"])
    if not missing:
        print(describe_array(folder))
        return EXIT_OK
    with taken_back(folder, *(trial.path for trial in missing)) as made:
        made.extend(new)
        new.clear()
        findings = check_request(*(requests[trial] for trial in missing))
        submission = make_submission(array, {trial: requests[trial] for trial in missing}, made, parallel)
        script = check_script(submission, findings)
        tell("model", check.check_training(requests[missing[0]]))
        if options.dry_run:
            return end_dry_run(script)
        write_trials(folder, trials)
        with handed_over(made, scheduler):
            ids = scheduler.submit(submission)
            for trial, job in zip(missing, ids, strict=True):
                note_job(trial.path, job, submission.folder.name)
            note_job(folder, ids[0].partition("_")[0], submission.folder.name)
            end_claim(submission.folder)
    tell("job", [f"{ids[0]} to {ids[-1]}, at most {parallel} at once"])
    tell_differences(scheduler, submission, ids[0], first.shown_path)
    tell("then", [f"{spell('submit')} status {typed(first.shown_path)}    (or wait, logs, cancel)"])
    return follow_array(folder) if options.wait else EXIT_OK


def _refuse_too_many(count: int, kind: str) -> None:
    """Raise `UserError` for more trials than a scheduler runs as one array."""
    most = SCHEDULERS[kind].most_jobs
    if SCHEDULERS[kind].is_this_process:
        raise UserError(f"--array: --cluster {kind} is this process itself. Type --cluster local for several runs.")
    if count > most:
        raise UserError(f"--array: {count:,} trials; --cluster {kind} takes at most {most:,}. Type fewer values.")


def make_requests(array: Request, trials: Sequence[Trial]) -> dict[Trial, Request]:
    """A request for each trial, its settings checked. Raises `UserError`.

    Args:
        array: what all trials share; its run folder is the array's.
        trials: all of them.
    """
    names = {setting.partition("=")[0] for setting in trials[0].settings}
    if both := sorted(names & {override.partition("=")[0] for override in array.overrides}):
        raise UserError(f"{both[0]} is given after -- and in --array. Omit one of the two.")
    requests = {}
    for trial in trials:
        overrides = (*array.overrides, *trial.settings)
        config = train.read_decided_config(array.config_path, overrides, trial.path).config
        requests[trial] = dataclasses.replace(array, overrides=overrides, config=config, run_path=trial.path)
    return requests


def _has_result(request: Request) -> bool:
    """Whether a trial is finished. Raises `UserError` if its result is of other settings."""
    from signs_dist.checkpointing.resume_rules import is_result_of

    try:
        return is_result_of(RunFolder(request.run_path), request.config, request.accepted)
    except UserError as error:
        raise UserError(f"{request.run_path}: {error}") from error


def make_submission(array: Request, requests: Mapping[Trial, Request], made: list[Path], parallel: int) -> Submission:
    """Claim the array's folder, and make a job of each request.

    Args:
        array: what all trials share; its run folder is the array's.
        requests: of the trials that are to be submitted.
        made: gets the submission's folder, as in `make_folder`.
        parallel: how many jobs run at once.

    Raises:
        UserError: another submission was faster, or a trial's folder cannot be used.
    """
    folder, snapshot = make_folder(array, made)
    # Look again, now that the folder is claimed.
    if any(_has_result(request) or trial.is_alive for trial, request in requests.items()):
        raise UserError(f"another submission for {array.run_path} has just ended. Type the command again.")
    jobs = []
    for trial, request in requests.items():
        check.check_run_folder(request)
        jobs.append(make_job(request, folder / trial.path.name, snapshot))
    run_list = folder / "runs.txt"
    run_list.write_text("".join(f"{trial.path}\n" for trial in requests), encoding="utf-8")
    return Submission(array.cluster, tuple(jobs), folder, array.run_path.name, run_list, parallel)
