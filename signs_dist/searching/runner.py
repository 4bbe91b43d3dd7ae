"""Running the trials of a sweep as processes of this machine."""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from signs_dist.errors import EXIT_USAGE
from signs_dist.monitoring.signals import StopRequest
from signs_dist.results.choices import describe_choice, describe_run, describe_value
from signs_dist.results.statistics import mean_and_sd
from signs_dist.results.sweeps import MEASURES, best_value, read_curve
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.holder import Holder
from signs_dist.run_folder.lease import NAME as LEASE
from signs_dist.searching.early_stopping import mean_curve, why_hopeless
from signs_dist.searching.jobs import Job, explain_failure, is_stop
from signs_dist.searching.places import Place
from signs_dist.searching.sources import Ending, EndState, Source
from signs_dist.searching.sweep_folder import SweepFolder
from signs_dist.searching.trials import Run, Trial

POLL_SECONDS = 0.1
LOOK_SECONDS = 0.5
"""The interval at which curves and the holders of run folders are read."""


@dataclasses.dataclass
class _Open:
    """A trial that has begun here, and not ended."""

    trial: Trial
    left: int
    """Runs that have neither ended nor been given up."""
    state: EndState = "finished"
    epoch: int | None = None
    was_stopped: bool = False


@dataclasses.dataclass
class _Started:
    """A run whose process has been started."""

    trial: Trial
    run: Run
    job: Job
    place: Place


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of the runs of one sweep command.

    Attributes:
        num_finished: runs that have a result now, or had one before.
        num_failed: runs that failed.
        num_stopped: runs that were stopped or not begun, as after Ctrl-C.
    """

    num_finished: int
    num_failed: int
    num_stopped: int


class Runner:
    """Starts a process for each run that has no result, as many at once as there are places.

    Args:
        folder: of the sweep, which this process holds.
        source: gives out the trials.
        places: one for each process at once.
        train: the command line for a run.
        measure: by which trials are compared.
        rule: when a trial is stopped early; one of `definition.RULES`.
        compared: trials of earlier commands, which the rule compares with.
        say: prints a line.
        stop: is set when the sweep is to stop.
    """

    def __init__(
        self,
        folder: SweepFolder,
        source: Source,
        places: Sequence[Place],
        train: Callable[[Run], list[str]],
        *,
        measure: str,
        rule: str,
        compared: Sequence[Trial],
        say: Callable[[str], None],
        stop: StopRequest,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._folder, self._source, self._train = folder, source, train
        self._measure, self._rule, self._say, self._stop = measure, rule, say, stop
        self._environment = environment
        self._free = list(places)
        self._started: list[_Started] = []
        self._queue: deque[tuple[Trial, Run]] = deque()
        self._held: list[tuple[Trial, Run]] = []
        self._open: dict[int, _Open] = {}
        self._compared = {trial.number: trial for trial in compared}
        self._curves: dict[Path, tuple[int, dict[int, float]]] = {}
        self._num_finished = self._num_failed = self._num_stopped = 0
        self._next_look = 0.0

    def run(self) -> Outcome:
        """Train until no run is left, or the sweep is to stop; then all processes save and end.

        Raises:
            KeyboardInterrupt: a second Ctrl-C. All processes are killed.
            UserError: a file of the sweep cannot be written, or the config refuses a trial. All processes are stopped.
        """
        try:
            while self._step():
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            raise
        except BaseException:
            self._stop_all()
            while any(started.job.poll() is None for started in self._started):
                time.sleep(POLL_SECONDS)
            raise
        finally:
            for started in self._started:
                started.job.kill()
        self._num_stopped += len(self._queue) + len(self._held)
        return Outcome(self._num_finished, self._num_failed, self._num_stopped)

    def _step(self) -> bool:
        """Do what is due now. Returns whether anything is left to wait for."""
        for started in [each for each in self._started if each.job.poll() is not None]:
            self._end(started)
        if self._stop.is_set:
            if self._started and not all(each.job.is_stopping for each in self._started):
                self._say(f"stopping: {_runs(len(self._started))} under way: saving at the next step")
            self._stop_all()
            return bool(self._started)
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_SECONDS
            self._look_at_held()
            if self._rule != "none":
                self._stop_hopeless()
        self._fill()
        return bool(self._started or self._held)

    def _stop_all(self) -> None:
        for started in self._started:
            started.job.stop()

    def _fill(self) -> None:
        """Start runs in the free places."""
        while self._free and not self._stop.is_set:
            if not self._queue and not self._take_trial():
                return
            if not self._queue:
                continue
            trial, run = self._queue.popleft()
            if RunFolder(self._folder.run_path(run.id)).is_finished:
                self._finish(trial, run)
            elif who := self._find_holder(run.id):
                self._say(f"{self._describe(trial, run)}: waits for {who}, which trains it already")
                self._held.append((trial, run))
            else:
                self._start(trial, run)

    def _take_trial(self) -> bool:
        """Open the source's next trial. Returns whether there was one."""
        trial = self._source.next_trial()
        if trial is None:
            return False
        self._compared[trial.number] = trial
        missing = [run for run in trial.runs if not RunFolder(self._folder.run_path(run.id)).is_finished]
        self._num_finished += len(trial.runs) - len(missing)
        opened = self._open[trial.number] = _Open(trial, len(missing))
        self._queue.extend((trial, run) for run in missing)
        if not missing:
            self._close(opened)
        return True

    def _start(self, trial: Trial, run: Run) -> None:
        place = self._free.pop(0)
        self._folder.record.note_start(trial, run.id)
        job = Job(self._train(run), place, self._folder.output_path(run.id), self._environment)
        self._started.append(_Started(trial, run, job, place))
        self._say(f"{self._describe(trial, run)}: started")

    def _end(self, started: _Started) -> None:
        """A process has ended."""
        self._started.remove(started)
        self._free.append(started.place)
        trial, run, code = started.trial, started.run, started.job.poll()
        assert code is not None
        opened = self._open[trial.number]
        path = self._folder.run_path(run.id)
        if RunFolder(path).is_finished:
            self._folder.record.note_end(trial, run.id, "finished", code, "")
            self._finish(trial, run)
        elif started.job.is_stopping and opened.state == "pruned":
            self._folder.record.note_end(trial, run.id, "stopped", code, "stopped early")
            self._give_up(opened)
        elif code == EXIT_USAGE and self._find_holder(run.id):
            self._held.append((trial, run))
        elif is_stop(code):
            self._folder.record.note_end(trial, run.id, "stopped", code, "")
            self._say(f"{self._describe(trial, run)}: stopped, and saved")
            self._num_stopped += 1
            opened.was_stopped = True
            self._give_up(opened)
        else:
            why = explain_failure(code, path, self._folder.output_path(run.id))
            self._folder.record.note_end(trial, run.id, "failed", code, why)
            self._say(f"{self._describe(trial, run)}: failed: {why}")
            self._num_failed += 1
            opened.state = "failed"
            self._give_up(opened)

    def _finish(self, trial: Trial, run: Run) -> None:
        value = best_value(RunFolder(self._folder.run_path(run.id)), self._measure)
        self._say(f"{self._describe(trial, run)}: finished, {describe_value(self._measure, value)}")
        self._num_finished += 1
        self._give_up(self._open[trial.number])

    def _give_up(self, opened: _Open) -> None:
        """One run less to wait for."""
        opened.left -= 1
        if opened.left == 0:
            self._close(opened)

    def _close(self, opened: _Open) -> None:
        """All runs of a trial have ended."""
        del self._open[opened.trial.number]
        if opened.was_stopped:
            return
        found = [best_value(RunFolder(self._folder.run_path(run.id)), self._measure) for run in opened.trial.runs]
        values = [value for value in found if value is not None]
        value = mean_and_sd(values)[0] if values else None
        self._source.tell(opened.trial, Ending(opened.state, value, opened.epoch))

    def _look_at_held(self) -> None:
        """Take up the runs that other processes trained, once those have ended."""
        for trial, run in [each for each in self._held if not self._find_holder(each[1].id)]:
            self._held.remove((trial, run))
            self._queue.appendleft((trial, run))

    def _find_holder(self, run_id: str) -> str:
        """The living process of this machine that trains a run; "" if there is none."""
        if any(started.run.id == run_id for started in self._started):
            return "another trial with the same settings"
        holder, host = Holder.read(self._folder.run_path(run_id) / LEASE), platform.node()
        is_here = holder is not None and holder.is_here(host) and not holder.is_gone(host)
        return f"process {holder.pid}" if holder is not None and is_here else ""

    def _stop_hopeless(self) -> None:
        """Stop the trials that the rule calls hopeless."""
        if not self._started:
            return
        curves = {number: self._curve(trial) for number, trial in self._compared.items()}
        for opened in list(self._open.values()):
            number = opened.trial.number
            jobs = [started.job for started in self._started if started.trial.number == number]
            if opened.state != "finished" or not jobs:
                continue
            others = [curve for other, curve in curves.items() if other != number]
            num_epochs = opened.trial.runs[0].num_epochs
            found = why_hopeless(self._rule, curves[number], others, num_epochs, self._measure)
            if found is not None:
                self._prune(opened, jobs, *found)

    def _prune(self, opened: _Open, jobs: Sequence[Job], epoch: int, why: str) -> None:
        opened.state, opened.epoch = "pruned", epoch
        self._folder.record.note_pruned(opened.trial, epoch, why)
        self._say(f"trial {opened.trial.number}  {describe_choice(opened.trial.chosen)}: stopped early: {why}")
        waiting = [each for each in self._queue if each[0].number == opened.trial.number]
        for each in waiting:
            self._queue.remove(each)
            self._give_up(opened)
        for job in jobs:
            job.stop()

    def _curve(self, trial: Trial) -> dict[int, float]:
        curves = [self._curve_of_run(RunFolder(self._folder.run_path(run.id))) for run in trial.runs]
        return mean_curve(curves, is_less_better=MEASURES[self._measure])

    def _curve_of_run(self, run: RunFolder) -> dict[int, float]:
        """The curve of a run, read again only when its file has grown: a sweep may have a thousand."""
        try:
            size = run.metrics.stat().st_size
        except OSError:
            return {}
        known = self._curves.get(run.path)
        if known is None or known[0] != size:
            known = self._curves[run.path] = size, read_curve(run, self._measure)
        return known[1]

    def _describe(self, trial: Trial, run: Run) -> str:
        return f"trial {trial.number}  {describe_run(trial.chosen, run.seed)}"


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def train_command(python: str, config: Path | None, run: Run, run_path: Path, flags: Sequence[str]) -> list[str]:
    """The command line that trains a run."""
    given = [] if config is None else ["--config", str(config)]
    return [python, "-m", "signs_dist.train", *given, *run.settings, "--run-dir", str(run_path), *flags]
