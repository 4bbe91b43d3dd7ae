"""What a submitted job does on each of its tasks. Pickled as arguments only; the work is imported where it runs.

python -m launch.job WORKING_FOLDER IMPORT_FOLDERS …         (internal: a process of torchrun's)
"""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from launch.notices import note_code, note_signal
from signs_dist.environment.launchers import find_launch
from signs_dist.environment.slurm_job import read_job_attempt
from signs_dist.errors import EXIT_FAILED, EXIT_STOPPED
from signs_dist.monitoring.signals import SCHEDULER_SIGNALS, call_at_end, end_now


@dataclasses.dataclass(frozen=True)
class Job:
    """A training run as a SLURM job, called on each of its tasks.

    Attributes:
        arguments: of signs_dist.train.
        run_folder: absolute.
        working_folder: where it was submitted; paths in the config are relative to it.
        import_folders: what the code is imported from.
        processes_per_node: with torchrun as agent: how many it starts on each node; 0 where this task trains itself.
        max_restarts: with torchrun: how often it may start them anew.
        signal_seconds: with torchrun: how long before the job's end its signal comes, and so may a save take.
        port: of rank 0, for tasks that no SLURM started; None for those of SLURM, which find it by themselves.
    """

    arguments: tuple[str, ...]
    run_folder: str
    working_folder: str
    import_folders: tuple[str, ...]
    processes_per_node: int = 0
    max_restarts: int = 0
    signal_seconds: int = 0
    port: int | None = None

    def __call__(self) -> str:
        """Train, and return the run folder. Ends the process with the exit code of signs_dist.train if it is not 0."""
        _enter(self.working_folder, self.import_folders)
        if self.port is not None:
            _take_place_of_local_task(self.port)
        run_path = Path(self.run_folder)
        rank = find_launch(os.environ).rank
        _notice_signals(run_path, rank)
        call_at_end(functools.partial(note_code, run_path, rank))
        _speak_into_own_log(run_path, rank)
        try:
            code = self._launch_agent(run_path) if self.processes_per_node else self._train()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else EXIT_FAILED
        if code:
            note_code(run_path, rank, code)
            sys.exit(code)
        return self.run_folder

    def checkpoint(self) -> None:
        """End this task: submitit calls it on rank 0 at a signal in the moment before this class has its own handler.

        Without it submitit would requeue the job itself, beside the batch script.
        """
        _end_untrained(Path(self.run_folder), find_launch(os.environ).rank, signal.SIGUSR2)

    def _train(self) -> int:
        from signs_dist import train
        from signs_dist.console.command import run_command

        return run_command(train.main, self.arguments)

    def _launch_agent(self, run_path: Path) -> int:
        """Start torchrun on this node, which meets those of the job's other nodes."""
        from launch.agent import start_agent
        from signs_dist.console.command import run_command

        def launch(arguments: Sequence[str]) -> int:
            return start_agent(
                self.processes_per_node,
                arguments,
                run_path,
                max_restarts=self.max_restarts,
                # Python begins in the snapshot's folder, and looks for modules there.
                program=("-m", "launch.job", self.working_folder, os.pathsep.join(self.import_folders)),
                folder=self.import_folders[0],
                shutdown_seconds=self.signal_seconds or None,
            )

        return run_command(launch, self.arguments)


def _take_place_of_local_task(port: int) -> None:
    """Say in torchrun's variables which task of submitit's local executor this is."""
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
    """Work in the folder of the submission, and import from the snapshot before anything that lies there.

    What a snapshot lacks, such as modules that git ignores, is still found where it lies.
    """
    os.chdir(working_folder)
    sys.path[:] = list(dict.fromkeys([*import_folders, *sys.path, working_folder]))


def _speak_into_own_log(run_path: Path, rank: int) -> None:
    """From now on what this task says goes to a file of its own: one for each attempt and rank."""
    folder = run_path / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    mark = read_job_attempt(os.environ).mark
    path = folder / f"{mark if mark.startswith('local') else f'job{mark}'}.rank{rank}.txt"
    print(f"this task says on in {path}", flush=True)
    with path.open("ab", buffering=0) as stream:
        for standard in (sys.stdout, sys.stderr):
            standard.flush()
            os.dup2(stream.fileno(), standard.fileno())


def _notice_signals(run_path: Path, rank: int) -> None:
    """From now on a stop signal outside of training ends this task at once: there is nothing to save.

    While training, signs_dist.train has handlers of its own. submitit's, which would requeue the job themselves, are
    replaced.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        _end_untrained(run_path, rank, number)

    for number in SCHEDULER_SIGNALS:
        signal.signal(number, handle)
    signal.signal(signal.SIGCONT, signal.SIG_DFL)


def _end_untrained(run_path: Path, rank: int, number: int) -> None:
    note_signal(run_path, rank, number)
    print(f"stopped by {signal.Signals(number).name}, and not training", file=sys.stderr, flush=True)
    end_now(EXIT_STOPPED)


if __name__ == "__main__":
    _enter(sys.argv[1], sys.argv[2].split(os.pathsep))
    from signs_dist import train
    from signs_dist.console.command import run_command

    sys.exit(run_command(train.main, sys.argv[3:]))
