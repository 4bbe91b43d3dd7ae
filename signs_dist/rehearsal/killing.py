"""The drill: one run without interruption, then the same run again, killed in each of its attempts but the last."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from signs_dist.environment.subprocesses import count_processes, failure_of, launch_command, started
from signs_dist.errors import EXIT_OK, EXIT_OTHER_ARITHMETIC, EXIT_USAGE
from signs_dist.rehearsal.attempts import Attempt, last_saved_step, last_step, num_starts
from signs_dist.rehearsal.means import MEANS, Means, NoKill, choose_kill
from signs_dist.rehearsal.verdicts import Verdict, compare_with_whole
from signs_dist.run_folder.folder import RunFolder

TABLE_HEAD = f"{'run':>3}  {'attempt':>7}  {'processes':>9}  {'ended by':<32}  {'from':>5}  {'to':>5}  {'code':>4}"


@dataclasses.dataclass(frozen=True)
class Kill:
    """One attempt and how it ended.

    Attributes:
        run, attempt: numbers from 1.
        world_size: its processes.
        means: how it was killed, or "finished" if the run finished first.
        first_step: the step of the run after which it resumed.
        last_step: the last step in metrics.jsonl at its end.
        exit_code: of the launcher.
        seconds: from its start to its end.
    """

    run: int
    attempt: int
    world_size: int
    means: str
    first_step: int
    last_step: int
    exit_code: int
    seconds: float

    def describe(self) -> str:
        """A line of the table."""
        return (
            f"{self.run:>3}  {self.attempt:>7}  {self.world_size:>9}  {self.means:<32}  {self.first_step:>5}  "
            f"{self.last_step:>5}  {self.exit_code:>4}  {self.seconds:>5.0f} s"
        )


class Drill:
    """The uninterrupted run and the killed runs.

    Args:
        root: folder for the runs.
        arguments: `--config` and settings for signs_dist.train.
        sizes: numbers of processes to resume on.
        choose: the random numbers for all choices.
        is_balanced: whether samples may repeat within an epoch.

    Attributes:
        kills: an entry for each attempt that was killed.
    """

    def __init__(
        self, root: Path, arguments: Sequence[str], sizes: Sequence[int], choose: random.Random, *, is_balanced: bool
    ) -> None:
        self.root, self.arguments, self.sizes, self.choose = root, list(arguments), list(sizes), choose
        self.is_balanced = is_balanced
        self.kills: list[Kill] = []
        self._names_of_means = shuffled_means(choose)

    def run(self, world_size: int, num_kills: int, num_runs: int) -> list[Verdict]:
        """Train and kill, and compare.

        Args:
            world_size: processes of the uninterrupted run.
            num_kills: in all runs together.
            num_runs: runs to spread the kills over. There are more if some runs finish before all their kills.

        Returns:
            A verdict for each killed run.

        Raises:
            UserError: the processes were given wrong input.
            TrainingFailedError: an attempt failed without being killed, or does not end.
        """
        print(f"training without interruption on {count_processes(world_size)} …", flush=True)
        whole = RunFolder(self.root / "whole")
        self.run_attempt(whole, 0, 1, world_size, NoKill())
        num_steps = last_step(whole)
        print(TABLE_HEAD, flush=True)
        verdicts: list[Verdict] = []
        while len(self.kills) < num_kills or len(verdicts) < num_runs:
            number = len(verdicts) + 1
            num_kills_left, num_runs_left = max(0, num_kills - len(self.kills)), max(1, num_runs - len(verdicts))
            share = -(-num_kills_left // num_runs_left)  # rounded up
            killed = self._kill_run(number, share, num_steps)
            verdicts.append(compare_with_whole(whole, killed, number, is_balanced=self.is_balanced))
        return verdicts

    def _kill_run(self, number: int, num_kills: int, num_steps: int) -> RunFolder:
        """Start a run again and again until it is finished: its first `num_kills` attempts are killed."""
        folder = RunFolder(self.root / f"run{number}")
        world_size = 0
        for attempt in range(1, num_kills + 2):
            world_size = self.choose.choice([size for size in self.sizes if size != world_size] or self.sizes)
            means: Means = NoKill()
            if attempt <= num_kills:
                means = choose_kill(
                    next(self._names_of_means),
                    self.choose,
                    first_step=last_saved_step(folder),
                    num_steps=num_steps,
                    num_later_kills=num_kills - attempt,
                )
            kill = self.run_attempt(folder, number, attempt, world_size, means)
            print(kill.describe(), flush=True)
            if kill.means == "finished":
                break
            self.kills.append(kill)
        return folder

    def run_attempt(self, folder: RunFolder, run: int, attempt: int, world_size: int, means: Means) -> Kill:
        """Start one attempt of a run and wait until it has ended by some means, or is finished.

        Raises:
            UserError: the processes were given wrong input.
            TrainingFailedError: the attempt failed without being killed, or does not end.
        """
        begun, first_step, num_starts_before = time.monotonic(), last_saved_step(folder), num_starts(folder)
        output = self.root / f"run{run}-attempt{attempt}.log"
        killed_file = output.with_suffix(".killed").absolute()  # the processes may have another working directory
        module, arguments = means.program(["--run-dir", str(folder.path), "--quiet", *self.arguments], killed_file)
        with started(launch_command(module, world_size, arguments), output) as process:
            ended_by = means.end(Attempt(process, folder, output, killed_file, num_starts_before), self.choose)
            code = process.wait()
        if folder.is_finished:
            ended_by = "finished"
        elif not killed_file.exists() or code in (
            EXIT_OK,
            EXIT_USAGE,
            EXIT_OTHER_ARITHMETIC,
        ):  # the kill did not end it
            raise failure_of(f"attempt {attempt} of run {run}" if run else "the run", code, output)
        seconds = round(time.monotonic() - begun, 1)
        return Kill(run, attempt, world_size, ended_by, first_step, last_step(folder), code, seconds)


def shuffled_means(choose: random.Random) -> Iterator[str]:
    """The names of all means in a random order, then in another random order, and so on without end."""
    while True:
        names = list(MEANS)
        choose.shuffle(names)
        yield from names
