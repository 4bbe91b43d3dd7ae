"""The steps of every submission, of a run or an array: check, claim a folder, make the jobs, hand over, or undo."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from signs_dist.environment.installation import spell
from signs_dist.errors import EXIT_OK, UserError

from . import check
from .claim import SUBMISSION, claim_folder
from .job import Job
from .jobs import SUBMIT, jobs_of
from .program import typed
from .request import Request
from .schedulers import SCHEDULERS, ask_state
from .schedulers.base import Findings, Scheduler, Submission, UncertainError
from .snapshot import Snapshot, take_snapshot, without_snapshot


def tell(what: str, lines: Sequence[str]) -> None:
    """Print what was found, with its name in a column."""
    for line in lines:
        print(f"{what:>9}  {line}", flush=True)


def refuse_busy(run_path: Path) -> None:
    """Raise `UserError` if a job waits or runs for the folder already."""
    for job in jobs_of(run_path)[-1:]:
        state = ask_state(job)
        if state.is_alive:
            raise UserError(
                f"{run_path} has a job already: {job} is {state.describe()}. To end it: "
                f"{spell('submit')} cancel {typed(run_path)}. Another --run-dir begins another run."
            )


def check_request(request: Request, *others: Request) -> Findings:
    """Look for what would end the job in its first minute, except for the model, and print what was found.

    Args:
        request: of the job.
        others: of the other jobs of its array, of which only the batch is looked at.

    Returns:
        What the scheduler knows of the job.

    Raises:
        UserError: the job would fail.
    """
    findings = SCHEDULERS[request.cluster.kind].check(request)
    try:
        batches, *_ = [check.check_batches(each.config.train, each.cluster.world_sizes) for each in (request, *others)]
    except UserError as error:
        # More processes than the nodes have: the number is what to change, and not the batch.
        raise findings.doubt or findings.too_many or error from error
    tell("batch", batches)
    tell("run", [str(request.run_path), *check.check_run_folder(request)])
    for what, lines in findings.lines.items():
        tell(what, lines)
    return findings


def check_script(submission: Submission, findings: Findings) -> str:
    """The batch script, once the scheduler has been asked whether it would take it; "" where there is none.

    Raises:
        UserError: the scheduler would refuse it. If there is a doubt, it is raised: it explains more than the answer.
    """
    scheduler = SCHEDULERS[submission.cluster.kind]
    script = scheduler.script(submission)
    try:
        answer = scheduler.test_only(script, submission.cluster)
    except UserError as error:
        if findings.doubt is not None or not findings.lacks_nodes:
            raise findings.doubt or error from error
        answer = ""
    tell(submission.cluster.kind, [answer] if answer else [])
    return script


def end_dry_run(script: str) -> int:
    """Show the batch script, if there is one, and say that nothing was submitted. Returns the exit code."""
    print(f"\n{script}\n" if script else "", end="")
    print("dry run: everything is in order, nothing was submitted")
    return EXIT_OK


@contextlib.contextmanager
def taken_back(*run_paths: Path) -> Iterator[list[Path]]:
    """Yield a list for the submission's own folders: the folders that are in it at the end are removed.

    Other folders that were made for new runs are removed if they are empty: another submission may use them meanwhile.
    """
    made: list[Path] = []
    wanted = {each for path in run_paths for each in (path / SUBMIT, path, *path.parents)}
    missing = sorted((path for path in wanted if not path.exists()), reverse=True)  # a subfolder before its folder
    try:
        yield made
    finally:
        for path in made:
            shutil.rmtree(path, ignore_errors=True)
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def make_new_run_folder(request: Request, made: list[Path]) -> Request:
    """The request with a new run folder, if it names none: a submission of the same second proposes the same name.

    Args:
        request: what was asked for.
        made: the list of `taken_back`.
    """
    if not request.is_new_folder:
        return request
    from signs_dist.run_folder.folder import make_new_folder

    path = make_new_folder(request.run_path)
    made.append(path)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return dataclasses.replace(request, run_path=path, shown_path=str(shown))


@contextlib.contextmanager
def handed_over(made: list[Path], scheduler: Scheduler) -> Iterator[None]:
    """Around the hand-over: from here on the submission's folders stay, unless the scheduler refuses the job.

    Args:
        made: the list of `taken_back`.
        scheduler: what the job is handed over to.

    Raises:
        UserError: refused; or Ctrl-C, after which it is not known whether the scheduler has the job.
        UncertainError: that is not known either.
    """
    kept = list(made)
    made.clear()
    try:
        yield
    except UncertainError:
        raise
    except UserError:
        made.extend(kept)
        raise
    except KeyboardInterrupt:
        raise UserError(
            f"interrupted while the job was handed over: it may have started. Type {scheduler.look_command} to see."
        ) from None


def tell_differences(scheduler: Scheduler, submission: Submission, job: str, shown_path: str) -> None:
    """Print what the scheduler has made of a job, where that is not what was asked for, and what to type then.

    Args:
        scheduler: that has the job.
        submission: what was handed over.
        job: its id.
        shown_path: the run folder, for people.
    """
    differences = scheduler.find_differences(submission, job)
    tell("differs", [difference.line for difference in differences])
    if any(difference.is_harmful for difference in differences):
        tell("differs", [f"to take the job back: {spell('submit')} cancel {typed(shown_path)}"])


def typed_command(arguments: Sequence[str]) -> list[str]:
    """The words of the command that submits; `arguments` are those of this process."""
    is_console_script = arguments[:1] in (["submit"], ["sweep"])
    if Path(sys.argv[0]).name == "sweep.py":
        return ["python", "-m", "signs_dist.sweep", *arguments]
    return ["signs-dist", *arguments] if is_console_script else [*spell("submit").split(), *arguments]


def make_folder(request: Request, made: list[Path]) -> tuple[Path, Snapshot]:
    """Make a folder for this submission in the run folder: how it was submitted, and a snapshot of the code.

    Args:
        request: what was asked for.
        made: gets the folder, as soon as it exists.

    Raises:
        UserError: another submission for this run folder is under way.
    """
    from signs_dist.files import write_json
    from signs_dist.run_folder.folder import timestamp

    folder = claim_folder(request.run_path / SUBMIT)
    made.append(folder)
    here = Path.cwd()
    snapshot = take_snapshot(here, folder / "code") if request.is_snapshot else without_snapshot(here)
    tell("code", snapshot.lines)
    about = {
        "command": typed_command(sys.argv[1:]),
        "arguments": list(request.arguments),
        "working_folder": str(here),
        "time": timestamp(),
        "cluster": request.cluster.model_dump(mode="json"),
        "code": snapshot.about,
    }
    write_json(folder / SUBMISSION, about)
    if snapshot.diff:
        (folder / "code.diff").write_bytes(snapshot.diff)
    return folder, snapshot


def make_job(request: Request, folder: Path, snapshot: Snapshot) -> Job:
    """What the tasks of a run do. Its config is written to `folder`: later edits of the file do not change the job."""
    from signs_dist.config.reading import dump_config

    cluster = request.cluster
    folder.mkdir(parents=True, exist_ok=True)
    config_file = folder / "config.yaml"
    config_file.write_text(dump_config(request.config), encoding="utf-8")
    by_agent = cluster.agent == "torchrun"
    device = request.device if request.device != "auto" or not cluster.gpus_per_node else "cuda"
    return Job(
        arguments=(
            *("--config", str(config_file), "--run-dir", str(request.run_path), "--device", device),
            *(["--quiet"] if request.is_quiet else []),
            *(word for name in request.accept_change for word in ("--accept-change", name)),
        ),
        run_folder=str(request.run_path),
        working_folder=str(Path.cwd()),
        import_folders=tuple(str(path) for path in snapshot.import_folders),
        processes_per_node=cluster.num_local_processes if by_agent else 0,
        max_restarts=cluster.max_restarts if by_agent else 0,
        signal_seconds=cluster.signal_seconds if by_agent else 0,
        port=SCHEDULERS[cluster.kind].find_port(cluster),
    )
