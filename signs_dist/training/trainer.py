"""The epochs of a run: train, evaluate, write metrics, save, stop when asked."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from signs_dist.checkpointing import tensors
from signs_dist.data.batches import Batch
from signs_dist.environment.core_wait import CoreWatch, is_passive, list_remedies
from signs_dist.errors import NonFiniteLossError, StoppedError, TrainingFailedError, UserError, WrongResultError
from signs_dist.learning.metrics import RunningSums, Score
from signs_dist.learning.own_parts import build_metrics
from signs_dist.learning.probabilities import KeptProbabilities
from signs_dist.monitoring.signals import StopRequest, stop_reason
from signs_dist.results.receipt import write_receipt
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.lease import Lease
from signs_dist.run_folder.records import EpochLine, StepLine
from signs_dist.run_folder.sample_log import SampleLog
from signs_dist.training.final_weights import FinalWeights, final_weights, load_best_weights
from signs_dist.training.own_metrics import compute_on_main
from signs_dist.training.prediction_files import PredictionFiles
from signs_dist.training.prepare import sides_of
from signs_dist.training.process import Process
from signs_dist.training.profiling import StepProfiler
from signs_dist.training.progress import early_end_text, epoch_text, seconds_left, step_text
from signs_dist.training.result import make_result, show_result
from signs_dist.training.run_state import RunState
from signs_dist.training.saver import Saver
from signs_dist.training.score_table import duration, epoch_fields, score_fields
from signs_dist.training.stepper import Stepper
from signs_dist.training.wait_advice import Reading, WaitAdvice
from signs_dist.training.wrong_results import end_wrong

ShowProgress = Callable[[int, str, str | None], None]
"""Called with (steps done since the start of the run, numbers beside the bar, time left)."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """An evaluation of a split: its score over all processes, and the probabilities of this process's images."""

    score: Score
    kept: KeptProbabilities


class Trainer:
    """Trains a run from the place in `run_state` to its end.

    Args:
        stepper: trains steps and evaluates.
        run_state: how far the run is. Training changes it.
        saver: saves the run.
        process: where this process runs.
        folder: the run folder.
        stop: whether a signal asked this process to stop.
        lease: the right to write into the run folder; None in processes that do not write.
        profiler: traces steps; None traces none.
    """

    def __init__(
        self,
        stepper: Stepper,
        run_state: RunState,
        saver: Saver,
        process: Process,
        folder: RunFolder,
        *,
        stop: StopRequest,
        lease: Lease | None = None,
        profiler: StepProfiler | None = None,
    ) -> None:
        self._stepper, self._run_state, self._saver, self._profiler = stepper, run_state, saver, profiler
        self._process, self._folder, self._stop, self._lease = process, folder, stop, lease
        self._config, self._plan, self._data = stepper.prepared.config, stepper.prepared.plan, stepper.prepared.data
        self._strategy, self._pulse = process.strategy, process.pulse
        self._step_seconds = 0.0
        self._sides = sides_of(self._config)
        on_gpu = self._strategy.device.type == "cuda"
        reading = Reading.of(stepper.prepared, num_cores=process.context.cores_per_process, on_gpu=on_gpu)
        self._wait_advice = WaitAdvice(reading)
        self._metrics = build_metrics(self._config.evaluate.metrics, stepper.state.num_classes)
        stops_on_error = self._config.checkpoint.on_error == "stop"
        # On a GPU the host waits for no core: it is seldom busy.
        self._core_watch = self._watch_cores() if self._strategy.device.type == "cpu" else None
        self._predictions = PredictionFiles(
            folder,
            self._data,
            process,
            stops_on_error=stops_on_error,
            max_megapixels=self._config.data.max_megapixels,
        )
        if self._config.log.samples:
            log = SampleLog(folder.logs, self._strategy.shard.index)
            stepper.state.observe = functools.partial(_write_samples, log)

    def _watch_cores(self) -> CoreWatch:
        setting, is_exact = self._config.train.num_threads, self._config.exact
        policy = os.environ.get("OMP_WAIT_POLICY")
        remedies = functools.partial(
            list_remedies,
            num_processes=self._strategy.world_size,
            threads_setting=setting,
            is_exact=is_exact,
            policy=policy,
        )
        # Threads that sleep while they wait lose little beside other programs, and get a larger share of the cores.
        # torch.compile would compile the network again, for a minute, whenever the number changes.
        is_compiled = self._config.train.compile is not False
        may_change = setting == "auto" and not is_exact and not is_passive(policy) and not is_compiled
        num_threads, num_sharing = self._stepper.prepared.way.num_threads, self._process.context.num_sharing_cores
        return CoreWatch(num_threads, remedies, may_change=may_change, num_sharing=num_sharing)

    def _mind_cores(self) -> None:
        """Tell a long wait for cores, and compute with as many threads as have a core each."""
        if self._core_watch is None:
            return
        before = self._core_watch.num_threads
        if told := self._core_watch.look():
            self._process.screen.say(told)
        if self._core_watch.num_threads != before:
            torch.set_num_threads(self._core_watch.num_threads)

    def train(self, run_started: float, before_results: Callable[[], None] | None = None) -> dict[str, Any]:
        """Train the epochs that are left, evaluate the final weights, and write model.pt and result.json.

        Args:
            run_started: `time.perf_counter()` at the start of this attempt.
            before_results: called after the last epoch, before the results are written; None to call nothing.

        Returns:
            The contents of result.json.

        Raises:
            StoppedError: a signal asked to stop.
            TrainingFailedError: the loss is not a finite number, or another run has taken over the folder.
            SaveError: a checkpoint could not be written.
        """
        run_state, num_epochs = self._run_state, self._config.train.epochs
        run_state.clock.start()
        self._saver.timer.restart()
        val: Evaluation | None = None
        with self._profiling(), self._process.screen.training(run_state.num_steps, run_state.steps_done) as show:
            while run_state.cursor.epoch < num_epochs and not run_state.has_ended_early:
                val = self._train_epoch(show)
        trained_seconds = run_state.clock.seconds
        if before_results is not None:
            before_results()
        if run_state.has_ended_early:
            self._process.screen.result(early_end_text(run_state, self._config))
        self._saver.wait()
        final = FinalWeights.choose(self._config.train.final_weights, run_state, self._plan.num_steps)
        if final.steps != run_state.steps_done:
            load_best_weights(final, self._stepper, self._saver.store, self._strategy)
            val = None
        # None also if an earlier attempt trained the last epoch and was killed before it wrote the result.
        val = val or self._evaluate("val")
        return self._finish(final, val, trained_seconds, run_started)

    @contextlib.contextmanager
    def _profiling(self) -> Iterator[None]:
        """Within the block, steps are traced where that is wanted."""
        if self._profiler is None:
            yield
            return
        try:
            yield
        except BaseException:
            self._profiler.close(is_failed=True)
            raise
        self._profiler.close()

    def _train_epoch(self, show: ShowProgress) -> Evaluation | None:
        """Train the rest of an epoch, evaluate if it is due, write a line, and save. Returns the evaluation."""
        run_state, num_epochs = self._run_state, self._config.train.epochs
        epoch = run_state.cursor.epoch + 1
        first_step = run_state.cursor.step
        self._pulse.enter("load", epoch=epoch, step=first_step)
        line = self._train_steps(show)
        val: Evaluation | None = None
        if epoch == num_epochs or epoch % self._config.evaluate.every_epochs == 0:
            val = self._evaluate("val")
        score = val.score if val is not None else None
        is_best = run_state.end_epoch(score)
        # Both are written before the save: a checkpoint has no epoch that metrics.jsonl and the predictions lack.
        if val is not None and is_best:
            self._predictions.write("val", val.kept, {"epoch": epoch, "step": run_state.steps_done, "weights": "best"})
        fields = epoch_fields(score) if score is not None else {}
        self._add(EpochLine(**dataclasses.asdict(line), **fields))
        self._save(None)
        best_by, left = self._config.evaluate.best_by, seconds_left(run_state, self._sides)
        self._process.screen.epoch(epoch, num_epochs, epoch_text(line, score, num_epochs, left, best_by))
        self._mind_cores()
        num_images = (self._plan.num_steps - first_step) * self._plan.global_batch
        if advice := self._wait_advice.after_epoch(line, num_images, self._strategy.world_size):
            self._process.screen.result(advice)
        return val

    def _train_steps(self, show: ShowProgress) -> StepLine:
        """Train the steps of an epoch that are left. Returns the numbers of the whole epoch."""
        run_state, num_steps = self._run_state, self._plan.num_steps
        state = self._stepper.state
        sums = run_state.take_sums(state.num_classes, self._strategy.device, is_main=self._strategy.is_main)
        started, first_step = time.perf_counter(), run_state.cursor.step
        line: StepLine | None = None
        if first_step == num_steps:  # an earlier attempt stopped between the last step and the evaluation
            line = self._make_line(sums, 0, 0.0, 1.0)
        try:
            for step in self._stepper.steps(run_state.cursor, sums):
                run_state.advance()
                if self._profiler is not None:
                    self._profiler.after_step(run_state.steps_done)
                at_end = step.step == num_steps
                if at_end or run_state.steps_done % self._config.log.every_steps == 0:
                    self._stepper.settle()  # raises, so that no line is written about a loss that is not finite
                    seconds = time.perf_counter() - started
                    line = self._make_line(sums, step.step - first_step, step.wait_seconds, seconds)
                    # The line about the epoch follows its last step, after the evaluation.
                    left = duration(seconds_left(run_state, self._sides)) if not at_end else None
                    show(run_state.steps_done, step_text(line, self._config.train.epochs), left)
                    if not at_end:
                        self._add(line)
                        self._mind_cores()
                self._after_step(sums)
        except NonFiniteLossError as error:  # from a step, or from `settle` here or before a save
            self._end_non_finite(error)
        except WrongResultError as error:
            end_wrong(error, self._folder, self._saver, self._process, steps_per_epoch=num_steps)
        self._step_seconds += time.perf_counter() - started
        assert line is not None
        return line

    def _add(self, line: StepLine) -> None:
        """Add a line to metrics.jsonl, and to the chain of an exact run."""
        try:
            self._folder.add(line)
        except UserError:
            self._saver.wait()  # a save in progress may have filled the disk: its error says how much it needs
            raise
        self._saver.cover(line)

    def _make_line(self, sums: RunningSums, num_here: int, wait_seconds: float, seconds: float) -> StepLine:
        """The numbers of the epoch so far; this attempt did `num_here` of its steps in `seconds`."""
        images, batch = self._run_state.images, self._plan.global_batch
        return StepLine(
            epoch=self._run_state.epoch,
            step=self._run_state.steps_done,
            images=images,
            **score_fields("train", self._total(sums)),
            lr=self._stepper.state.learning_rate(images - batch),
            images_per_second=round(num_here * batch / seconds, 1),
            data_wait_share=round(wait_seconds / seconds, 4),
        )

    def _after_step(self, sums: RunningSums) -> None:
        """After each step: raise if a save has failed, stop if a process was asked to, save if a save is due."""
        sync, every, run_state = self._stepper.state.sync, self._config.checkpoint.every_steps, self._run_state
        self._saver.check()
        if self._lease is not None and self._lease.is_lost:
            self._lease.require_held()  # raises
        if sync.stop_agreed:
            self._end_stopped(sums)
        # The end of an epoch is saved after its evaluation.
        in_epoch = run_state.cursor.step < self._plan.num_steps
        if in_epoch and (sync.save_agreed or (every and run_state.steps_done % every == 0)):
            self._save(sums)

    def _save(self, sums: RunningSums | None) -> None:
        """Save the run. `sums` are this process's sums of the epoch so far; None at the end of an epoch."""
        self._stepper.settle()  # raises, so that no step whose loss is not finite is saved, and no wrong result
        self._pulse.enter("save", collective=sums is not None and self._strategy.world_size > 1)
        totals = self._strategy.total(sums.tensors()) if sums is not None else None
        self._saver.save(self._run_state, self._stepper, totals)

    def _end_stopped(self, sums: RunningSums) -> None:
        name, code = stop_reason(self._strategy.gather_values(self._stop.signal_number, "agree on the stop"))
        run_state = self._run_state
        place = (
            f"stopped by {name} after epoch {run_state.epoch}, step {run_state.cursor.step} of {self._plan.num_steps}"
        )
        took, limit = self._saver.last_write_seconds, self._process.context.kill_seconds
        fits = name != signal.SIGTERM.name or limit is None or took < limit
        if not self._strategy.share_value(fits, "agree on the stop"):  # rank 0 saves, and knows how long that takes
            why = f"not saved: a save takes {took:.0f} s, and the process is killed {limit:g} s after SIGTERM"
            raise StoppedError(f"{place}; {why}", code, is_saved=False)
        self._save(sums)
        self._saver.wait()
        # All processes end together: when one process has ended, a launcher ends the others, even during a save.
        self._strategy.gather_values(None, "wait for the save")
        raise StoppedError(place, code)

    def _evaluate(self, split: str) -> Evaluation:
        """Evaluate the weights on a split."""
        self._pulse.enter(f"evaluate {split}")
        kept = KeptProbabilities(self._stepper.state.num_classes, keeps_all=bool(self._metrics))
        score = self._total(self._stepper.evaluate(split, kept))
        if self._metrics:
            labels = self._data.splits[split].labels
            values = compute_on_main(self._metrics, kept.in_full(), labels, self._strategy)
            score = dataclasses.replace(score, metrics=values)
        assert score.num_images == len(self._data.splits[split])
        return Evaluation(score, kept)

    def _total(self, sums: RunningSums) -> Score:
        before = self._pulse.phase
        self._pulse.enter("sum metrics", collective=self._strategy.world_size > 1)
        score = Score.from_sums(self._strategy.total(sums.tensors()))
        self._pulse.enter(before)
        return score

    def _finish(
        self, final: FinalWeights, val: Evaluation, trained_seconds: float, run_started: float
    ) -> dict[str, Any]:
        """Evaluate the other splits, write model.pt, predictions and result.json, and show the closing tables."""
        weights = final_weights(self._stepper)
        others = [name for name in self._stepper.evaluation_loaders if name != "val"]
        evaluations = {"val": val} | {name: self._evaluate(name) for name in others}
        scores = {name: evaluation.score for name, evaluation in evaluations.items()}
        self._pulse.enter("save")
        if self._strategy.is_main:
            self._folder.require_held()
            tensors.save(self._folder.model, weights)
        for name, evaluation in evaluations.items():
            about = {"epoch": final.epoch, "step": final.steps, "weights": final.kind}
            self._predictions.write(name, evaluation.kept, about)
        images = self._run_state.steps_done_here * self._plan.global_batch
        result = make_result(
            self._stepper,
            self._run_state,
            self._process,
            scores,
            final,
            train_seconds=trained_seconds,
            total_seconds=time.perf_counter() - run_started,
            images_per_second=round(images / self._step_seconds, 1) if self._step_seconds else None,
            weights_sha256=tensors.weights_sha256(weights),
        )
        write_receipt(self._folder, result)  # before the result, with which the run is finished
        self._folder.write_result(result)
        show_result(self._process, result, scores, self._folder)
        return result

    def _end_non_finite(self, error: NonFiniteLossError) -> None:
        """Gather the images from all processes, write non_finite_loss.json, and raise."""
        found = self._strategy.gather_values(error.found, "gather images")
        paths = self._data.splits["train"].paths
        rows = [
            {"rank": rank, **row, "files": [str(paths[sample]) for sample in row["samples"]]}
            for rank, rows in enumerate(found)
            for row in rows
        ]
        first = rows[0]
        self._folder.write_json("non_finite_loss.json", {"micro_batches": rows})
        self._saver.wait()
        newest = self._saver.newest()
        kept = f"the last good state is in {newest}" if newest is not None else "no state was saved before"
        raise TrainingFailedError(
            f"the training loss is not a finite number at epoch {first['epoch']}, step {first['step']}, in micro-batch "
            f"{', '.join(str(row['micro_batch']) for row in rows)}. A lower optim.lr (it is {self._config.optim.lr:g}) "
            f"or optim.clip_norm=1 often helps. The images are named in {self._folder.path / 'non_finite_loss.json'}; "
            f"{kept}. To look into the step: python -m signs_dist.replay {shlex.quote(str(self._folder.path))} "
            f"--failure"
        )


def _write_samples(log: SampleLog, numbers: range, batch: Batch, images: Tensor, loss: Tensor) -> None:
    log.write(batch.epoch + 1, batch.step + 1, numbers.start, batch.samples.tolist())
