"""Submit the doctor: it examines the nodes that a run with the same flags would get."""

from __future__ import annotations

import datetime
import functools
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist import doctor
from signs_dist.console.command import CommandParser, config_arguments
from signs_dist.environment.installation import spell
from signs_dist.errors import EXIT_FAILED, EXIT_OK, UserError

from .claim import end_claim
from .flags import read_flags
from .follow import POLL_SECONDS, StateWatch
from .handover import check_script, end_dry_run, handed_over, make_folder, make_new_run_folder, taken_back, tell
from .job import Job
from .jobs import note_job
from .local import read_sides
from .program import typed
from .rank_logs import find_rank_logs
from .request import Request
from .schedulers import SCHEDULERS
from .schedulers.base import Submission

if TYPE_CHECKING:
    import argparse

    from .cluster import ClusterConfig
    from .snapshot import Snapshot

MODULE = "signs_dist.doctor"
FINDINGS = "doctor.json"
"""The findings, in the folder of the job."""


def submit_doctor(parser: CommandParser, arguments: Sequence[str]) -> int:
    """Submit the doctor, follow it to its end, and return its exit code.

    Args:
        parser: of a submission.
        arguments: flags of a submission; behind `--` those of signs_dist.doctor.

    Raises:
        UserError: the scheduler refuses the job, or would.
    """
    parser.prog = f"{parser.prog} doctor"
    parser.description = (
        "Examine the nodes that a run with these flags would get: names and ports, the speed of each rank and pair, "
        "clocks, the run folder, SLURM's limits and signals. It follows the job to its end, and prints what it finds."
    )
    parser.epilog = "Exit codes: 0 no fail, 1 a fail, 2 wrong input or refused by SLURM."
    parser.passes_on = doctor.build_parser()
    options, rest = read_sides(parser, arguments, example="--nodes 2", module=MODULE)
    if options.array or options.parallel is not None:
        raise UserError("--array and --parallel are for runs. Omit them: the doctor is one job.")
    given = parser.passes_on.parse_intermixed_args(rest)
    request = _read_request(options, given, rest)
    scheduler = SCHEDULERS[request.cluster.kind]
    with taken_back(request.run_path) as made:
        request = make_new_run_folder(request, made)
        run_path = request.run_path
        findings = scheduler.check(request)
        for what, lines in findings.lines.items():
            tell(what, lines)
        folder, snapshot = make_folder(request, made)
        job_of_tasks = make_doctor_job(request, given, folder, snapshot)
        submission = Submission(request.cluster, (job_of_tasks,), folder, run_path.name)
        script = check_script(submission, findings)
        if options.dry_run:
            return end_dry_run(script)
        if scheduler.is_this_process:
            made.clear()
            end_claim(folder)
            code = doctor.main(job_of_tasks.arguments)
        else:
            with handed_over(made, scheduler):
                (job,) = scheduler.submit(submission)
                note_job(run_path, job, folder.name)
                end_claim(folder)
            tell("job", [job])
            tell("logs", [f"{run_path}/logs, {submission.files}/*_log.out"])
            code = follow_doctor(run_path, job)
    if given.json is not None and (run_path / FINDINGS).exists():
        shutil.copyfile(run_path / FINDINGS, given.json)
    return code


def _read_request(options: argparse.Namespace, given: argparse.Namespace, rest: Sequence[str]) -> Request:
    from signs_dist.files import require_writable
    from signs_dist.run_folder.folder import default_run_path
    from signs_dist.train import read_decided_config

    from .cluster_file import load_cluster

    cluster = load_cluster(options.cluster, read_flags(options))
    if given.run_dir is not None and given.run_dir.exists() and not given.run_dir.is_dir():
        raise UserError(f"--run-dir {given.run_dir} is a file. Name a folder.")
    require_writable(given.json)
    root = Path("runs") if given.run_dir is None else given.run_dir.absolute().parent
    run_path = default_run_path("doctor", datetime.datetime.now(), root).absolute()
    return Request(
        given.config,
        tuple(given.overrides),
        read_decided_config(given.config, given.overrides).config,
        run_path,
        shown_path=str(run_path),
        # A task for each process: SLURM's signal reaches each of them.
        cluster=cluster.model_copy(update={"agent": "srun"}),
        arguments=tuple(rest),
        is_quiet=given.quiet,
        is_snapshot=not options.no_snapshot,
        is_new_folder=True,
    )


def make_doctor_job(request: Request, given: argparse.Namespace, folder: Path, snapshot: Snapshot) -> Job:
    """What the tasks do: signs_dist.doctor, with the config as it is now.

    Args:
        request: what was asked for.
        given: the arguments of signs_dist.doctor.
        folder: of the submission.
        snapshot: where the tasks import from.
    """
    config: list[str] = []
    if given.config is not None or given.overrides:
        from signs_dist.config.reading import dump_config

        config_file = folder / "config.yaml"
        config_file.write_text(dump_config(request.config), encoding="utf-8")
        config = config_arguments(config_file, ())
    cluster: ClusterConfig = request.cluster
    device = given.device if given.device != "auto" or not cluster.gpus_per_node else "cuda"
    return Job(
        arguments=(
            *config,
            *(["--run-dir", str(given.run_dir.absolute())] if given.run_dir is not None else []),
            *("--json", str(request.run_path / FINDINGS), "--signal-seconds", str(cluster.signal_seconds)),
            *("--device", device),
            *(["--quiet"] if given.quiet else []),
        ),
        run_folder=str(request.run_path),
        working_folder=str(Path.cwd()),
        import_folders=tuple(str(path) for path in snapshot.import_folders),
        port=SCHEDULERS[cluster.kind].find_port(cluster),
        module=MODULE,
    )


def follow_doctor(run_path: Path, job: str) -> int:
    """Print what rank 0 finds until the job has ended; return the exit code of the doctor.

    Ctrl-C ends this command and not the job.
    """
    shown: dict[Path, int] = {}
    watch = StateWatch(job, functools.partial(print, flush=True))
    try:
        while (state := watch.look()).is_alive:
            _print_new(run_path, job, shown)
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        print(f"\nthe job continues. To end it: {spell('submit')} cancel {typed(run_path)}", file=sys.stderr)
        raise
    _print_new(run_path, job, shown)
    findings = _read_findings(run_path / FINDINGS)
    if findings is not None:
        return EXIT_FAILED if findings.get("status") == "fail" else EXIT_OK
    print(f"the doctor has not ended: job {job} is {state.describe()}. See the logs in {run_path}", file=sys.stderr)
    return state.exit_code or EXIT_FAILED


def _print_new(run_path: Path, job: str, shown: dict[Path, int]) -> None:
    """Print what rank 0 has written since the last call.

    Args:
        run_path: folder of the job.
        job: its id.
        shown: the log of each attempt, since a job may be requeued → how many bytes of it were printed; it is changed.
    """
    for log in find_rank_logs(run_path, job, 0):
        text = log.read_bytes()[shown.get(log, 0) :]
        whole = text[: text.rfind(b"\n") + 1]
        print(whole.decode(errors="replace"), end="", flush=True)
        shown[log] = shown.get(log, 0) + len(whole)


def _read_findings(path: Path) -> dict[str, Any] | None:
    import json

    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
