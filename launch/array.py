"""Submitting several runs as one array.

If the command is repeated with the same --run-dir, it submits only the trials that are missing or have failed.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from signs_dist.config.reading import load_config
from signs_dist.environment.installation import spell
from signs_dist.errors import EXIT_OK, UserError

from . import check
from .claim import end_claim
from .flags import read_request
from .follow import follow_array
from .handover import (
    check_request,
    check_script,
    handed_over,
    make_folder,
    make_job,
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
from .trials import Trial, make_trials, parse_grid, write_trials


def submit_array(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Check an array, and hand over the trials that are not finished; with --wait follow them.

    `arguments` are those of signs_dist.train.
    """
    grid = parse_grid(options.array)
    first = read_request(options, [*arguments, *grid[0]])
    scheduler = SCHEDULERS[first.cluster.kind]
    _refuse_too_many(len(grid), first.cluster.kind)
    parallel = scheduler.choose_parallel(first.cluster, options.parallel)
    folder = first.run_path
    array = dataclasses.replace(first, arguments=tuple(arguments), overrides=first.overrides[: -len(grid[0])])
    trials = make_trials(folder, grid)
    requests = make_requests(array, trials)
    missing = [trial for trial in trials if not trial.is_finished and not trial.is_alive]
    tell("array", [f"{len(trials)} trial{'' if len(trials) == 1 else 's'} in {folder}, {len(missing)} to submit"])
    if not missing:
        print(describe_array(folder))
        return EXIT_OK
    with taken_back(folder, *(trial.path for trial in missing)) as made:
        findings = check_request(*(requests[trial] for trial in missing))
        submission = make_submission(array, {trial: requests[trial] for trial in missing}, made, parallel)
        script = check_script(submission, findings)
        tell("model", check.check_training(requests[missing[0]]))
        if options.dry_run:
            print(f"\n{script}\n\n" if script else "", end="")
            print("dry run: everything is in order, nothing was submitted")
            return EXIT_OK
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
        config = load_config(array.config_path, overrides)
        requests[trial] = dataclasses.replace(array, overrides=overrides, config=config, run_path=trial.path)
    return requests


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
    if any(trial.is_finished or trial.is_alive for trial in requests):
        raise UserError(f"another submission for {array.run_path} has just ended. Type the command again.")
    jobs = []
    for trial, request in requests.items():
        check.check_run_folder(request)
        jobs.append(make_job(request, folder / trial.path.name, snapshot))
    run_list = folder / "runs.txt"
    run_list.write_text("".join(f"{trial.path}\n" for trial in requests), encoding="utf-8")
    return Submission(array.cluster, tuple(jobs), folder, array.run_path.name, run_list, parallel)
