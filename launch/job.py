"""What each task of a submitted job does. The pickle holds arguments only; the task imports the code that it runs.

python -m launch.job WORKING_FOLDER IMPORT_FOLDERS …         (internal: a process that torchrun starts)
"""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType

from signs_dist.console.streams import open_missing_streams
from signs_dist.environment.launchers import find_launch
from signs_dist.environment.slurm_job import read_job_attempt
from signs_dist.errors import EXIT_FAILED, EXIT_STOPPED
from signs_dist.monitoring.signals import SCHEDULER_SIGNALS, call_at_end, end_now

from .notices import note_code, note_signal
from .program import program, refuse_typed
from .rank_logs import rank_log


@dataclasses.dataclass(frozen=True)
class Job:
    """A training run as a job; each of its tasks calls it.

    Attributes:
        arguments: of signs_dist.train.
        run_folder: absolute.
        working_folder: where it was submitted; paths in the config are relative to it.
        import_folders: where Python imports the code from.
        processes_per_node: with torchrun as agent: how many processes it starts on each node; 0: this task trains.
        max_restarts: with torchrun: how often it may restart the processes.
        signal_seconds: with torchrun: how long before the job's end its signal comes: the time to save.
        port: of rank 0, for tasks of a job on this machine; None for tasks of SLURM, which find rank 0 themselves.
        module: the command that each task runs.
    """

    arguments: tuple[str, ...]
    run_folder: str
    working_folder: str
    import_folders: tuple[str, ...]
    processes_per_node: int = 0
    max_restarts: int = 0
    signal_seconds: int = 0
    port: int | None = None
    module: str = "signs_dist.train"

    def __call__(self) -> str:
        """Train, and return the run folder. Ends the process with the exit code of signs_dist.train if it is not 0."""
        _enter(self.working_folder, self.import_folders)
        open_missing_streams()
        if self.port is not None:
            _set_launcher_variables(self.port)
        run_path = Path(self.run_folder)
        rank = find_launch(os.environ).rank
        _end_at_signals(run_path, rank)
        call_at_end(functools.partial(note_code, run_path, rank))
        _write_to_rank_log(run_path, rank)
        try:
            code = self._launch_agent(run_path) if self.processes_per_node else self._train()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else EXIT_FAILED
        if code:
            note_code(run_path, rank, code)
            sys.exit(code)
        return self.run_folder

    def checkpoint(self) -> None:
        """End this task. submitit calls this on rank 0 at a signal that comes before this class has its own handler.

        Without this method submitit would requeue the job itself, and the batch script would requeue it again.
        """
        _end_untrained(Path(self.run_folder), find_launch(os.environ).rank, signal.SIGUSR2)

    def _train(self) -> int:
        from signs_dist.console.command import run_command

        return run_command(import_module(self.module).main, self.arguments)

    def _launch_agent(self, run_path: Path) -> int:
        """Start torchrun on this node; it meets the torchrun of each other node of the job."""
        from signs_dist.console.command import run_command

        from .agent import start_agent

        def launch(arguments: Sequence[str]) -> int:
            return start_agent(
                self.processes_per_node,
                arguments,
                run_path,
                max_restarts=self.max_restarts,
                # Python starts in the snapshot's folder, and looks for modules there.
                program=(*program("job"), self.working_folder, os.pathsep.join(self.import_folders)),
                folder=self.import_folders[0],
                shutdown_seconds=self.signal_seconds or None,
            )

        return run_command(launch, self.arguments)


def _set_launcher_variables(port: int) -> None:
    """Set torchrun's variables for a task of submitit's local executor: its rank, the world size, and rank 0's port."""
    import submitit

    task = submitit.JobEnvironment()
    os.environ.update(
        RANK=str(task.global_rank),
        WORLD_SIZE=str(task.num_tasks),
        LOCAL_RANK=str(task.local_rank),
        LOCAL_WORLD_SIZE=str(task.num_tasks),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )


def _enter(working_folder: str, import_folders: Sequence[str]) -> None:
    """Work in the folder of the submission, and import from the snapshot first.

    A module that the snapshot lacks, such as a file that git ignores, is imported from the folder of the submission.
    """
    os.chdir(working_folder)
    sys.path[:] = list(dict.fromkeys([*import_folders, *sys.path, working_folder]))


def _write_to_rank_log(run_path: Path, rank: int) -> None:
    """Send the output of this task to a file of its own, one for each attempt and rank."""
    path = rank_log(run_path, read_job_attempt(os.environ).mark, rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"the output of this task continues in {path}", flush=True)
    with path.open("ab", buffering=0) as stream:
        for standard in (sys.stdout, sys.stderr):
            standard.flush()
            os.dup2(stream.fileno(), standard.fileno())


def _end_at_signals(run_path: Path, rank: int) -> None:
    """Let a stop signal end this task at once while it does not train: there is nothing to save.

    signs_dist.train sets its own handlers for the time of training. This replaces submitit's handlers, which would
    requeue the job.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        _end_untrained(run_path, rank, number)

    for number in SCHEDULER_SIGNALS:
        signal.signal(number, handle)
    signal.signal(signal.SIGCONT, signal.SIG_DFL)


def _end_untrained(run_path: Path, rank: int, number: int) -> None:
    note_signal(run_path, rank, number)
    print(f"stopped by {signal.Signals(number).name} before or after training", file=sys.stderr, flush=True)
    end_now(EXIT_STOPPED)


if __name__ == "__main__":
    refuse_typed(sys.argv[1:], 2, "submit")
    _enter(sys.argv[1], sys.argv[2].split(os.pathsep))
    from signs_dist import train
    from signs_dist.console.command import run_command

    del sys.argv[1:3]
    sys.exit(run_command(train.main))
