"""Submitting a run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from signs_dist import train
from signs_dist.environment.installation import spell
from signs_dist.errors import EXIT_OK
from signs_dist.run_folder.folder import RunFolder

from . import check
from .claim import end_claim
from .flags import read_request
from .follow import follow
from .handover import (
    check_request,
    check_script,
    end_dry_run,
    handed_over,
    make_folder,
    make_job,
    make_new_run_folder,
    refuse_busy,
    taken_back,
    tell,
    tell_differences,
)
from .jobs import note_job
from .program import typed
from .rank_logs import log_stem
from .request import Request
from .schedulers import SCHEDULERS
from .schedulers.base import Submission


def submit_run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Check a run, and hand it over; with --wait follow it. `arguments` are those of signs_dist.train."""
    request = read_request(options, arguments)
    scheduler = SCHEDULERS[request.cluster.kind]
    if _is_finished(request):
        return EXIT_OK
    refuse_busy(request.run_path)
    with taken_back(request.run_path) as made:
        request = make_new_run_folder(request, made)
        run_path = request.run_path
        findings = check_request(request)
        folder, snapshot = make_folder(request, made)
        # Again, now that the folder is claimed.
        refuse_busy(run_path)
        if _is_finished(request):
            return EXIT_OK
        submission = Submission(request.cluster, (make_job(request, folder, snapshot),), folder, run_path.name)
        script = check_script(submission, findings)
        tell("model", check.check_training(request))  # takes longest, so it comes after what SLURM may refuse
        if options.dry_run:
            return end_dry_run(script)
        if scheduler.is_this_process:
            made.clear()
            end_claim(folder)
            return train.main(submission.jobs[0].arguments)
        with handed_over(made, scheduler):
            (job,) = scheduler.submit(submission)
            note_job(run_path, job, folder.name)
            end_claim(folder)
    tell("job", [job])
    tell("logs", [f"{run_path}/logs/{log_stem(job)}.*, {submission.files}/*_log.out"])
    tell_differences(scheduler, submission, job, request.shown_path)
    tell("then", [f"{spell('submit')} wait {typed(request.shown_path)}    (or status, logs, cancel)"])
    return follow(run_path, job) if options.wait else EXIT_OK


def _is_finished(request: Request) -> bool:
    """Whether the run folder holds the result already, which is then said. Raises as `is_result_of`."""
    folder = RunFolder(request.run_path)
    if not folder.is_finished:
        return False
    from signs_dist.checkpointing.resume_rules import finished_line, is_result_of

    if not is_result_of(folder, request.config, request.accepted):
        return False
    print(finished_line(request.run_path))
    return True
