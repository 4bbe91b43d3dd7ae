"""Submit a training run to SLURM, and look after it.

python launch/submit.py --nodes 2 --gpus-per-node 4 --time 4:00:00 --partition gpu -- --config configs/signs.yaml
python launch/submit.py --dry-run …                       # everything short of submitting
python launch/submit.py status|logs|cancel|wait [RUN_DIR|JOB]
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import difflib
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # as `python launch/submit.py`, which puts launch/ on the path in place of its parent
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from launch.claim import SUBMISSION, claim_folder, end_claim
from launch.cluster import FOLDER, KINDS, ClusterConfig, describe_memory, describe_minutes, load_cluster
from launch.local import read_sides
from launch.schedulers.slurm_questions import SUBMIT
from signs_dist import train
from signs_dist.console.command import CommandParser, run_command
from signs_dist.environment.slurm_job import find_default_partition
from signs_dist.errors import EXIT_OK, UserError

if TYPE_CHECKING:
    from launch.check import Request
    from launch.job import Job
    from launch.schedulers.slurm_script import Submission
    from launch.snapshot import Snapshot

FLAGS = {
    "partition": (str, "NAME", "which queue"),
    "account": (str, "NAME", "whose time it is"),
    "qos": (str, "NAME", "quality of service"),
    "constraint": (str, "FEATURES", "what nodes must have"),
    "nodes": (str, "N", "number of nodes, or the least and the most, such as 1-4 (default: 1)"),
    "gpus_per_node": (int, "N", "GPUs of each node, one process each; 0: on the CPU (default: 0)"),
    "gpu_type": (str, "NAME", "kind of GPU, such as a100"),
    "tasks_per_node": (int, "N", "processes on each node (default: one per GPU, or 1)"),
    "cpus_per_task": (int, "N", "cores of each process"),
    "memory": (str, "64G", "memory of each node"),
    "time": (str, "4:00:00", "time limit (default: 1:00:00)"),
    "signal_seconds": (int, "N", "how long before the limit the run is saved and requeued (default: 120)"),
    "max_requeues": (int, "N", "how often the job may be requeued in all (default: 50)"),
    "max_timeouts": (int, "N", "how often for running out of time (default: 20)"),
    "max_restarts": (int, "N", "with --agent torchrun: restarts within an allocation (default: 3)"),
}
COMMANDS = ("status", "logs", "cancel", "wait")


def build_parser() -> CommandParser:
    """The flags of a submission."""
    parser = CommandParser(
        prog="python launch/submit.py",
        description="Submit a training run to SLURM: one process per GPU by srun, ranks and addresses from the "
        "allocation, saved and requeued at the time limit and at preemption. What follows `--` goes to "
        "signs_dist.train.",
        epilog="Then: python launch/submit.py status|logs|cancel|wait [RUN_DIR|JOB]; each has a --help. Exit codes: 0 "
        "submitted (with --wait: finished), 2 wrong input or refused by SLURM; with --wait those of signs_dist.train.",
    )
    parser.add_argument(
        "--cluster",
        default="slurm",
        metavar="NAME",
        help=f"settings of a site: a file in {FOLDER}/, a path, or one of {', '.join(KINDS)} (default: slurm)",
    )
    for name, (kind, metavar, text) in FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    parser.add_argument("--agent", choices=("srun", "torchrun"), help="what starts the processes (default: srun)")
    parser.add_argument("--gpus-per-task", type=int, choices=(1,), help="let SLURM show each process its own GPU only")
    parser.add_argument(
        "--extra", action="append", metavar="NAME=VALUE", help="a further parameter of sbatch; may be repeated"
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the script, submit nothing")
    parser.add_argument("--no-snapshot", action="store_true", help="run the code as it will be when the job starts")
    parser.add_argument(
        "--data-on-nodes", action="store_true", help="only compute nodes see the images: not looked for"
    )
    parser.add_argument(
        "--array",
        nargs="+",
        metavar="NAME=V1,V2",
        help="a run for each combination, such as seeds=0,1,2 optim.lr=0.1,0.03",
    )
    parser.add_argument("--parallel", type=int, metavar="N", help="runs of an array at once (default: 8)")
    parser.add_argument("--wait", action="store_true", help="follow the run to its end, and exit as it does")
    parser.add_argument("arguments", nargs="*", metavar="-- ARGUMENTS", help="for signs_dist.train")
    parser.passes_on = train.build_parser()
    return parser


def main(arguments: Sequence[str]) -> int:
    """Submit, or look after what was submitted."""
    first = arguments[0] if arguments else ""
    if first in COMMANDS:
        from launch.follow import look_after

        return look_after(arguments)
    if not first.startswith("-") and (near := difflib.get_close_matches(first, COMMANDS, n=1)):
        raise UserError(f"there is no command {first}. Did you mean {near[0]}? They are {', '.join(COMMANDS)}.")
    options, rest = read_sides(build_parser(), arguments, example="--nodes 1")
    if options.parallel is not None and not options.array:
        raise UserError("--parallel is for --array: how many of its runs there are at once. Leave it away.")
    if options.parallel is not None and options.parallel < 1:
        raise UserError(f"--parallel {options.parallel}: at least 1.")
    if options.array:
        from launch.array import submit_array_run

        return submit_array_run(options, rest)
    return submit_run(options, rest)


def read_flags(options: argparse.Namespace) -> dict[str, Any]:
    """What the flags say, by the names of `ClusterConfig`. Raises `UserError`."""
    extra = {}
    for entry in options.extra or ():
        name, found, value = entry.partition("=")
        if not name.lstrip("-"):
            raise UserError(f"--extra {entry!r}: it is NAME=VALUE, such as --extra reservation=course")
        extra[name.lstrip("-")] = value if found else True
    flags = {name: getattr(options, name) for name in FLAGS}
    binds = True if options.gpus_per_task else None
    return {**flags, "agent": options.agent, "binds_gpus": binds, "extra": extra or None}


def submit_run(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Check a run, and hand it over."""
    from launch import check
    from launch.schedulers.slurm_questions import note_job
    from launch.schedulers.slurm_script import Submission, submit, submit_here
    from signs_dist.run_folder.folder import RunFolder

    request, given = read_request(options, rest)
    cluster, run_path = request.cluster, request.run_path
    if RunFolder(run_path).is_finished:
        from signs_dist.checkpointing.resume_rules import refuse_other_settings

        refuse_other_settings(RunFolder(run_path), request.config, request.accepted)
        print(f"finished: {run_path} holds the result of this run. Another --run-dir begins a new one.")
        return EXIT_OK
    refuse_busy(run_path)
    with taken_back(run_path) as made:
        doubt = check_request(request)
        folder, snapshot = make_folder(run_path, cluster, options, rest, made)
        refuse_busy(run_path)  # once more, now that no other submission can come in between
        submission = Submission(cluster, make_job(request, given, folder, snapshot), folder, run_path.name)
        script = check_script(submission, doubt)
        tell("model", check.check_training(request))  # takes longest: after what SLURM may refuse
        if options.dry_run:
            print(f"\n{script}\n" if script else "", end="")
            print("dry run: everything is in order, nothing was submitted")
            return EXIT_OK
        if cluster.kind == "debug":
            made.clear()
            end_claim(folder)
            return train.main(submission.job.arguments)
        with handed_over(made, cluster.kind):
            job = submit(submission) if cluster.kind == "slurm" else f"local{submit_here(submission)}"
            note_job(run_path, job, folder.name)
            end_claim(folder)
    tell("job", [job if cluster.kind == "slurm" else f"{job}, a process of this machine"])
    number = job.removeprefix("local")
    tell("logs", [f"{run_path}/logs/*{number}.*, {folder}/submitit/{number}_0_log.out"])
    shown = shlex.quote(str(given.run_dir or run_path.relative_to(Path.cwd())))
    tell("then", [f"python launch/submit.py wait {shown}    (or status, logs, cancel)"])
    if options.wait:
        from launch.follow import follow

        return follow(run_path, job)
    return EXIT_OK


def tell(what: str, lines: Sequence[str]) -> None:
    """Print what was found, with its name in a column."""
    for line in lines:
        print(f"{what:>9}  {line}", flush=True)


def read_request(options: argparse.Namespace, rest: Sequence[str]) -> tuple[Request, argparse.Namespace]:
    """The run that is asked for, and the arguments of signs_dist.train. Raises `UserError`."""
    from launch.check import Request
    from signs_dist.config.reading import accepted_names, load_config
    from signs_dist.run_folder.folder import default_run_path

    cluster = load_cluster(options.cluster, read_flags(options))
    if options.max_restarts is not None and cluster.agent != "torchrun":
        raise UserError(
            "--max-restarts is for --agent torchrun, which starts processes anew within an allocation. Add that, or "
            "leave it away: --max-requeues is how often the job itself comes back."
        )
    given = train.build_parser().parse_intermixed_args(list(rest))
    _refuse_for_jobs(given, cluster)
    name = given.config.stem if given.config else "default"
    run_path = Path(given.run_dir or default_run_path(name, datetime.datetime.now())).absolute()
    if run_path.exists() and not run_path.is_dir():
        raise UserError(f"--run-dir {given.run_dir} is a file. Name a folder.")
    config = load_config(given.config, given.overrides).config
    accepted = frozenset(accepted_names(given.accept_change))
    request = Request(given.config, tuple(given.overrides), config, run_path, accepted, cluster, options.data_on_nodes)
    return request, given


def refuse_busy(run_path: Path) -> None:
    """Raise `UserError` if a job waits or runs for the folder already."""
    from launch.schedulers.slurm_questions import ask_state, jobs_of

    for job in jobs_of(run_path)[-1:]:
        state = ask_state(job)
        if state.is_alive:
            raise UserError(
                f"{run_path} has a job already: {job} is {state.describe()}. To end it: "
                f"python launch/submit.py cancel {shlex.quote(str(run_path))}. Another --run-dir begins another run."
            )


def check_request(request: Request) -> UserError | None:
    """Look for what would end the job in its first minute, but for the model, and tell what was found.

    Returns:
        Why SLURM may refuse the job, if that is not certain.

    Raises:
        UserError: it was found.
    """
    from launch import check
    from launch.schedulers.slurm_nodes import check_gpus_here, choose_fitting, choose_partitions
    from launch.schedulers.slurm_questions import describe_requeue, read_nodes, read_partitions, read_slurm_config

    cluster = request.cluster
    slurm: Mapping[str, str] = {}
    partition: Mapping[str, str] = {}
    doubt: UserError | None = None
    if cluster.kind == "slurm":
        slurm = read_slurm_config()
        if not slurm:
            raise UserError(
                "no SLURM answers on this machine (scontrol show config). Submit from a login node; or type "
                "--cluster local, which starts the same job on this machine."
            )
        wanted = cluster.partition or find_default_partition(os.environ)
        partitions = choose_partitions(wanted, read_partitions())
        try:
            partition = choose_fitting(cluster, partitions, read_nodes())
        except UserError as error:
            if wanted:
                raise
            # A site may route jobs to other partitions than the default one: SLURM's own answer counts.
            doubt, partition = error, partitions[0]
    elif cluster.gpus_per_node:
        import torch

        check_gpus_here(cluster, torch.cuda.device_count())
    tell("batch", check.check_batches(request.config, cluster.world_sizes))
    tell("run", [str(request.run_path), *check.check_run_folder(request)])
    tell("devices", [check.describe_devices(cluster)])
    if cluster.kind == "slurm":
        tell("time", [describe_minutes(cluster.time)])
        if cluster.memory is not None:
            tell("memory", [describe_memory(cluster.memory)])
        kill = slurm.get("KillWait", "").split(" ")[0]
        tell("signal", check.check_signal(request, float(kill) if kill.isdigit() else None))
        tell("requeue", describe_requeue(slurm, partition, cluster))
    return doubt


def check_script(submission: Submission, doubt: UserError | None) -> str:
    """The batch script, which SLURM has been asked about; "" without SLURM.

    Raises:
        UserError: SLURM refuses it; `doubt` where that tells why.
    """
    from launch.schedulers.slurm_script import batch_script, test_only

    if submission.cluster.kind != "slurm":
        return ""
    script = batch_script(submission)
    try:
        tell("slurm", [test_only(script)])
    except UserError as error:
        raise doubt or error from error
    return script


@contextlib.contextmanager
def taken_back(*run_paths: Path) -> Iterator[list[Path]]:
    """Yield a list for the submission's own folders: those that it holds at the end are removed.

    What else was made for new run folders goes if it is empty: another submission may have come into it meanwhile.
    """
    made: list[Path] = []
    wanted = {each for path in run_paths for each in (path / SUBMIT, path, *path.parents)}
    missing = sorted((path for path in wanted if not path.exists()), reverse=True)  # what is in a folder before it
    try:
        yield made
    finally:
        for path in made:
            shutil.rmtree(path, ignore_errors=True)
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


@contextlib.contextmanager
def handed_over(made: list[Path], kind: str) -> Iterator[None]:
    """Around the call of sbatch: from here on the submission's folders stay, unless SLURM refuses the job.

    Raises:
        UserError: also at Ctrl-C, when nobody knows whether SLURM has taken the job.
    """
    kept = list(made)
    made.clear()
    try:
        yield
    except UserError:
        made.extend(kept)
        raise
    except KeyboardInterrupt:
        look = "squeue --me" if kind == "slurm" else "ps aux | grep submitit"
        raise UserError(f"interrupted while the job was handed over: it may have begun. Look with: {look}") from None


def _refuse_for_jobs(given: argparse.Namespace, cluster: ClusterConfig) -> None:
    """Flags of signs_dist.train that make no sense in a job. Raises `UserError`."""
    if given.dp or given.device_ids is not None:
        raise UserError("--dp is one process with several GPUs. Leave it away here: each process has a GPU of its own.")
    if given.explain:
        raise UserError("--explain trains nothing. Type it after python -m signs_dist.train")
    if given.device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {given.device}: leave it away, each process takes the GPU that SLURM gave it.")
    if given.run_dir == Path():
        raise UserError(
            "--run-dir is this very folder. Give a name for a folder of the run's own, or leave --run-dir away."
        )
    if cluster.kind == "slurm" and not cluster.gpus_per_node and given.device == "cuda":
        raise UserError("--device cuda with --gpus-per-node 0. Ask for GPUs, such as --gpus-per-node 4")


def make_folder(
    run_path: Path, cluster: ClusterConfig, options: argparse.Namespace, arguments: Sequence[str], made: list[Path]
) -> tuple[Path, Snapshot]:
    """A folder for this submission in the run folder: how it was submitted, and a snapshot of the code.

    Args:
        run_path: the run folder.
        cluster, options, arguments: what was asked for.
        made: gets the folder, as soon as it is there.

    Raises:
        UserError: another submission for this run folder is under way.
    """
    from launch.snapshot import take_snapshot, without_snapshot
    from signs_dist.files import write_json
    from signs_dist.run_folder.folder import timestamp

    folder = claim_folder(run_path / SUBMIT)
    made.append(folder)
    working_folder = Path.cwd()
    snapshot = (
        without_snapshot(working_folder) if options.no_snapshot else take_snapshot(working_folder, folder / "code")
    )
    about = {
        "command": ["python", "launch/submit.py", *sys.argv[1:]],
        "arguments": list(arguments),
        "working_folder": str(working_folder),
        "time": timestamp(),
        "cluster": cluster.model_dump(mode="json"),
        "code": snapshot.about,
    }
    write_json(folder / SUBMISSION, about)
    if snapshot.diff:
        (folder / "code.diff").write_bytes(snapshot.diff)
    return folder, snapshot


def make_job(request: Request, given: argparse.Namespace, folder: Path, snapshot: Snapshot) -> Job:
    """What the tasks of a run are to do; its config is written to `folder`, so that later edits change nothing."""
    from launch.job import Job
    from signs_dist.config.reading import dump_config
    from signs_dist.environment.port_exchange import find_free_port

    cluster = request.cluster
    folder.mkdir(parents=True, exist_ok=True)
    config_file = folder / "config.yaml"
    config_file.write_text(dump_config(request.config), encoding="utf-8")
    by_agent = cluster.agent == "torchrun"
    device = given.device if given.device != "auto" or not cluster.gpus_per_node else "cuda"
    return Job(
        arguments=(
            *("--config", str(config_file), "--run-dir", str(request.run_path), "--device", device),
            *(["--quiet"] if given.quiet else []),
            *(word for name in given.accept_change for word in ("--accept-change", name)),
        ),
        run_folder=str(request.run_path),
        working_folder=str(Path.cwd()),
        import_folders=tuple(str(path) for path in snapshot.import_folders),
        processes_per_node=cluster.num_local_processes if by_agent else 0,
        max_restarts=cluster.max_restarts if by_agent else 0,
        signal_seconds=cluster.signal_seconds if by_agent else 0,
        port=find_free_port() if cluster.kind == "local" and cluster.num_local_processes > 1 else None,
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
