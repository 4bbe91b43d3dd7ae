"""The base class of all schedulers, and the values that its methods take and return."""

from __future__ import annotations

import abc
import dataclasses
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from signs_dist.errors import UserError

from ..job import Job
from ..jobs import SUBMIT
from ..request import Request

if TYPE_CHECKING:
    from ..cluster import ClusterConfig

DEFAULT_PARALLEL = 8
"""How many jobs of an array run at once."""
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED", "STOPPED")
RUNNING = ("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT")
ENDED = (
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"),
    *("OUT_OF_MEMORY", "LAUNCH_FAILED", "RECONFIG_FAIL", "REVOKED"),
    "ENDED",  # ours, of a job on this machine
)
"""squeue(1), JOB STATE CODES. A state in none of these lists is of a later release of SLURM: such a job is alive."""


@dataclasses.dataclass(frozen=True)
class JobState:
    """The state of a job.

    Attributes:
        job: its id.
        state: such as RUNNING (squeue(1), JOB STATE CODES); "" for a job that the scheduler does not know.
        reason: why it waits.
        nodes: where it runs.
        restarts: how often it was requeued.
        exit_code: of its batch script.
    """

    job: str
    state: str
    reason: str = ""
    nodes: str = ""
    restarts: int = 0
    exit_code: int = 0

    @property
    def is_waiting(self) -> bool:
        """Whether it is in the queue."""
        return self.state in WAITING

    @property
    def is_alive(self) -> bool:
        """Whether it waits or runs."""
        return bool(self.state) and self.state not in ENDED

    def describe(self) -> str:
        """In a few words."""
        if not self.state:
            return "not known to SLURM any more"
        why = f" ({self.reason})" if self.is_waiting and self.reason not in ("", "None") else ""
        where = f" on {self.nodes}" if self.state in RUNNING and self.nodes else ""
        again = f", requeued {self.restarts} time{'s' if self.restarts > 1 else ''}" if self.restarts else ""
        return f"{self.state.lower()}{why}{where}{again}"


@dataclasses.dataclass(frozen=True)
class Submission:
    """What is handed over to a scheduler.

    Attributes:
        cluster: what a job asks for.
        jobs: what the tasks of each job do: one job for a run, one for each trial of an array.
        folder: of this submission, in the run folder, absolute.
        name: of the job, for people.
        run_list: for an array: a file with the run folder of each job on a line.
        num_parallel: for an array: how many of its jobs run at once.
    """

    cluster: ClusterConfig
    jobs: tuple[Job, ...]
    folder: Path
    name: str
    run_list: Path | None = None
    num_parallel: int = 1

    @property
    def python(self) -> str:
        """The shell command that starts Python on a compute node."""
        python = shlex.quote(self.cluster.python or sys.executable)
        return f"{self.cluster.container} {python}" if self.cluster.container else python

    @property
    def files(self) -> Path:
        """The folder of the script, the pickled jobs, and their output before they have logs of their own."""
        return self.folder / "submitit"


class UncertainError(UserError):
    """A job was handed over, and it is not known whether the scheduler has it: what it needs stays."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """What a scheduler has made of a job, where that is not what was asked for.

    Attributes:
        line: what was asked for, and what it has become.
        is_harmful: whether the run may fail by it, or last much longer.
    """

    line: str
    is_harmful: bool = False


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a scheduler knows of a job before it is submitted.

    Attributes:
        lines: what to show, by its name.
        doubt: why the scheduler may refuse the job, if that is not certain.
        too_many: that the job names more nodes than it can get, where the scheduler takes it all the same.
        lacks_nodes: whether the job waits for nodes that are out of service: the scheduler cannot tell when it would
            start, and takes it all the same.
    """

    lines: dict[str, list[str]]
    doubt: UserError | None = None
    too_many: UserError | None = None
    lacks_nodes: bool = False


# Many members: what is asked of a scheduler before, at and after a submission.
class Scheduler(abc.ABC):
    """A scheduler: submits jobs, and tells about submitted jobs.

    Attributes:
        job_prefix: the ids of its jobs begin with it; "" for the one scheduler that has all other ids.
        most_jobs: how many jobs it runs as one array.
        is_this_process: whether the submitting process trains, so that there is no job.
        look_command: what to type to see whether a job has begun.
    """

    job_prefix: ClassVar[str]
    most_jobs: ClassVar[int] = 1
    is_this_process: ClassVar[bool] = False
    look_command: ClassVar[str]

    @abc.abstractmethod
    def check_settings(self, cluster: ClusterConfig) -> None:
        """Raise ValueError for settings that this scheduler cannot follow; the message begins with `name=value`."""

    def choose_parallel(self, cluster: ClusterConfig, asked: int | None) -> int:
        """How many jobs of an array run at once; `asked` is --parallel. Raises `UserError` if it cannot run so many."""
        return DEFAULT_PARALLEL if asked is None else asked

    def read_defaults(self, environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
        """Settings that a person's environment gives, under flags and files: setting → (value, variable)."""
        return {}

    @abc.abstractmethod
    def check(self, request: Request) -> Findings:
        """Compare what is asked for with what there is. Raises `UserError` if the job cannot run."""

    def find_port(self, cluster: ClusterConfig) -> int | None:
        """A port for rank 0, chosen at the submission; None if the tasks find one."""
        return None

    def script(self, submission: Submission) -> str:
        """The batch script, exactly as it is submitted; "" for a scheduler that takes none. Raises `UserError`."""
        return ""

    def test_only(self, script: str, cluster: ClusterConfig) -> str:
        """The scheduler's answer on whether it would take the script, in one line; "" if it cannot be asked.

        Raises:
            UserError: it would not.
        """
        return ""

    @abc.abstractmethod
    def submit(self, submission: Submission) -> list[str]:
        """Hand over, and return the id of each job. Raises `UserError` if the scheduler refuses."""

    def find_differences(self, submission: Submission, job: str) -> list[Difference]:
        """What is asked for, compared with what the scheduler has noted of the job; empty where it cannot be asked."""
        return []

    @abc.abstractmethod
    def state(self, job: str) -> JobState:
        """The state of a job. Raises `UserError` where the scheduler does not answer."""

    def states(self, jobs: Sequence[str]) -> dict[str, JobState]:
        """The state of each job. Raises `UserError` where the scheduler does not answer."""
        return {job: self.state(job) for job in jobs}

    def find_alive(self, jobs: Sequence[str]) -> set[str]:
        """Which of these jobs wait or run. Raises `UserError` where the scheduler does not answer."""
        return {job for job in jobs if self.state(job).is_alive}

    @abc.abstractmethod
    def cancel(self, jobs: Sequence[str]) -> None:
        """Take jobs out of the queue, or end them. Raises `UserError` if the scheduler refuses."""

    @abc.abstractmethod
    def logs(self, run_path: Path, job: str) -> list[Path]:
        """The logs of a job that are not logs of its ranks: what it wrote before a rank had a log of its own."""

    def find_run(self, job: str) -> Path | None:
        """The run folder of a job that the scheduler still knows; None if it does not know it."""
        return None


def refuse_characters(run_folder: str, files: Path, unsafe: Collection[str], reader: str) -> None:
    """Refuse the name of a run folder that would not be taken as it is.

    Args:
        run_folder: for the message.
        files: the folder of the submission's files, which is in it.
        unsafe: characters that `reader`, a shell or Python would expand, or split a path at.
        reader: such as SLURM, for the message.

    Raises:
        UserError: the folder's name holds one of them.
    """
    if wrong := sorted(set(unsafe) & set(str(files))):
        raise UserError(
            f"--run-dir {run_folder!r}: {reader} or Python would not take {' '.join(map(repr, wrong))} "
            f"as it is. Use letters, digits, spaces, and . _ - + , ; = ( )"
        )


def submission_folders(run_path: Path) -> tuple[Path, Path]:
    """The folders of submissions for a run: its own, and its array's if it is a trial of one."""
    return run_path / SUBMIT, run_path.absolute().parent / SUBMIT
