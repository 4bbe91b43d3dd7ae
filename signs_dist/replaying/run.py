"""Training the steps of a request again as one process, and looking into them. Read it from top to bottom."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from signs_dist.checkpointing.resume_rules import changed_settings, changes_of_result
from signs_dist.checkpointing.state_digest import state_sha256
from signs_dist.checkpointing.store import read_checkpoint
from signs_dist.config.settings import Config
from signs_dist.errors import NonFiniteLossError, UserError
from signs_dist.learning.metrics import Score
from signs_dist.models.weights import named_weights
from signs_dist.replaying.evidence import Compared, Recorded, recorded_samples
from signs_dist.replaying.records import MicroBatch, Step
from signs_dist.replaying.request import Request, check_micro_batch, checked_steps
from signs_dist.replaying.watching import StepWatch, find_bad_weights, gradients_of, norm_of
from signs_dist.retraining.again import Again, begin_again
from signs_dist.retraining.recorded_run import RecordedRun, State
from signs_dist.training.process import Process

CHEAP_SECONDS = 5.0
"""Up to this time, a replay trains on to the next recorded state without being asked to."""


@dataclasses.dataclass(frozen=True)
class Replayed:
    """What a replay saw.

    Attributes:
        steps: those of the request, as far as the loss was finite. Each process has its own micro-batches.
        compared: how they compare with what the run wrote down.
        files: the names of the samples of `steps`.
        classes: the names of the classes.
        trained_steps: the steps that were trained before the first of `steps`.
        seconds: that these took.
        factor, offset: of the normalisation of the images, float32 [1, 3, 1, 1]; see `ImagePreparer`.
    """

    steps: list[Step]
    compared: Compared
    files: dict[int, str]
    classes: list[str]
    trained_steps: int
    seconds: float
    factor: torch.Tensor
    offset: torch.Tensor


@dataclasses.dataclass(frozen=True)
class Looked:
    """The last step that was looked at, as it is in this process."""

    again: Again
    watch: StepWatch
    step: Step


Look = Callable[[Looked, Replayed], None]


def replay(
    process: Process,
    run: RecordedRun,
    start: State,
    request: Request,
    recorded: Recorded,
    config: Config,
    adapted: Sequence[str] = (),
    look: Look | None = None,
) -> Replayed:
    """Train the steps of a request again, and look into them. All processes call this.

    Args:
        process: where this process runs.
        run: the run.
        start: the state to begin from.
        request: what is looked at.
        recorded: what the run wrote down.
        config: from `config_again`, as this machine can compute it.
        adapted: what differs from the run for that reason, for people.
        look: called at the end, while this process is as the last step left it: it trains no further then. None to call
            nothing.

    Raises:
        UserError: the request, the images or the state cannot be used.
    """
    again = begin_again(config, process, run, start)
    try:
        return _replay(process, again, run, start, request, recorded, adapted, look)
    finally:
        again.close()


def _replay(
    process: Process,
    again: Again,
    run: RecordedRun,
    start: State,
    request: Request,
    recorded: Recorded,
    adapted: Sequence[str],
    look: Look | None,
) -> Replayed:
    plan = again.stepper.prepared.plan
    checked_steps(request.first, request.last, again.run_state.num_steps)
    check_micro_batch(request.micro_batch, plan.micro_batches.count)
    comparing = _Comparing(process, again, recorded)
    comparing.compare_state()
    first_step, begun = again.steps_done, time.perf_counter()
    with process.screen.training(request.last, again.steps_done) as show:
        try:
            for done in comparing.train_until(request.first - 1):
                show(done, "", None)
        except NonFiniteLossError as error:
            bad = _step_of(error, process, plan.num_steps)
            raise UserError(
                f"the loss is not finite at step {bad:,} already, before step {request.first:,}. Type --step {bad}"
            ) from error
        seconds = time.perf_counter() - begun
        steps: list[Step] = []
        watch: StepWatch | None = None
        is_finite = True
        for number in range(request.first, request.last + 1):
            watch, step, is_finite = _look_into(again, comparing, request, number)
            steps.append(step)
            show(number, "", None)
            if not is_finite:
                break
    if is_finite and look is None:
        seconds_each = (time.perf_counter() - begun) / max(1, again.steps_done - first_step)
        comparing.reach_next_state(seconds_each, always=request.checks)
    logged = recorded_samples(run.folder.logs, plan.num_steps, request.first, request.last)
    every = _all_samples(process, steps)
    samples = [(step, logged[step] == found) for step, found in every.items() if step in logged]
    paths = again.stepper.prepared.data.splits["train"].paths
    found = Replayed(
        steps=steps,
        compared=dataclasses.replace(
            comparing.compared(),
            samples=samples if request.micro_batch is None else [],
            other_settings=_changes_since(run, start),
            adapted=list(adapted),
        ),
        files={sample: str(paths[sample]) for found in every.values() for sample in found},
        classes=list(again.stepper.prepared.data.classes),
        trained_steps=request.first - 1 - first_step,
        seconds=seconds,
        factor=again.stepper.prepare_train.factor.cpu(),
        offset=again.stepper.prepare_train.offset.cpu(),
    )
    if look is not None:
        assert watch is not None
        look(Looked(again, watch, steps[-1]), found)
    return found


def _changes_since(run: RecordedRun, start: State) -> list[str]:
    """The settings that decide the weights and that the run has changed since the state."""
    if start.path is None:
        return []
    return sorted(changes_of_result(changed_settings(read_checkpoint(start.path)["config"], run.config)))


def _step_of(error: NonFiniteLossError, process: Process, num_steps: int) -> int:
    """The step of the run, from 1, whose loss was not finite. On a GPU it may be the one before the last."""
    found = [row for rows in process.strategy.gather_values(error.found, "gather images") for row in rows]
    return min((int(row["epoch"]) - 1) * num_steps + int(row["step"]) for row in found)


def _look_into(again: Again, comparing: _Comparing, request: Request, number: int) -> tuple[StepWatch, Step, bool]:
    """Train a step, and look into it. Returns also whether its loss is finite."""
    state, num_steps, keeps = again.stepper.state, again.stepper.prepared.plan.num_steps, request.keeps_tensors
    bad_before = find_bad_weights(state.model)
    before = _copies(named_weights(state.model)) if keeps else None
    rate = state.learning_rate((number - 1) * state.sync.micro_batches.global_batch)
    is_finite = True
    with StepWatch(again.stepper, only=request.micro_batch, keeps_gradients=keeps) as watch:
        try:
            for _ in comparing.train_until(number):
                pass
        except NonFiniteLossError:
            is_finite = False
    gradients = gradients_of(state.model)
    step = Step(
        step=number,
        epoch=(number - 1) // num_steps + 1,
        step_of_epoch=(number - 1) % num_steps + 1,
        learning_rate=rate,
        micro_batches=watch.micro_batches(),
        bad_weights=bad_before,
        bad_after=find_bad_weights(state.model),
        gradient_norm=norm_of(gradients.values()) if is_finite else None,
        unclipped_norm=watch.unclipped_norm if is_finite else None,
        gradients=_copies(gradients) if keeps and is_finite else None,
        weights_before=before,
        weights_after=_copies(named_weights(state.model)) if keeps else None,
    )
    return watch, step, is_finite


class _Comparing:
    """Trains a run on, and compares it with what the run wrote down wherever it wrote something."""

    def __init__(self, process: Process, again: Again, recorded: Recorded) -> None:
        self._process, self._again, self._recorded = process, again, recorded
        self._states: list[tuple[int, bool]] = []
        self._losses: list[tuple[int, float, float]] = []

    def train_until(self, steps_done: int) -> Iterator[int]:
        """Train on, and yield the steps done after each step."""
        again = self._again
        stops = [step for step in self._recorded.states if again.steps_done < step < steps_done]
        for stop in [*sorted(stops), steps_done]:
            for done in again.train_until(stop):
                if done in self._recorded.losses:
                    again.stepper.state.sync.settle()
                    score = Score.from_sums(self._process.strategy.total(again.sums.tensors()))
                    self._losses.append((done, self._recorded.losses[done], score.loss))
                yield done
            self.compare_state()

    def compare_state(self) -> None:
        """Compare the state of this place, if the run wrote its SHA-256."""
        done = self._again.steps_done
        expected = self._recorded.states.get(done)
        if expected is not None and all(done != step for step, _ in self._states):
            self._states.append((done, state_sha256(self._again.content()) == expected))

    def reach_next_state(self, seconds_each: float, *, always: bool) -> None:
        """Train on to the next state that the run wrote down, if that is quick."""
        done = self._again.steps_done
        after = min((step for step in self._recorded.states if step >= done), default=None)
        if after is None or after > self._again.run_state.num_steps:
            return
        is_cheap = (after - done) * seconds_each <= CHEAP_SECONDS
        if not self._process.strategy.share_value(always or is_cheap, "agree on the next state"):
            return
        try:
            for _ in self.train_until(after):
                pass
        except NonFiniteLossError:
            self._states.append((after, False))

    def compared(self) -> Compared:
        again = self._again
        return Compared(
            is_exact=again.stepper.prepared.config.exact,
            same_bits=again.same_bits,
            differences=list(again.differences),
            same_images=again.same_images,
            states=self._states,
            losses=self._losses,
        )


def _all_samples(process: Process, steps: list[Step]) -> dict[int, list[int]]:
    """The samples of each step over all processes, in the order of its micro-batches."""
    own = {step.step: [_number_and_samples(each) for each in step.micro_batches] for step in steps}
    gathered = process.strategy.gather_values(own, "gather samples")
    return {
        step: [sample for _, samples in sorted(row for part in gathered for row in part[step]) for sample in samples]
        for step in own
    }


def _number_and_samples(micro_batch: MicroBatch) -> tuple[int, list[int]]:
    return micro_batch.number, micro_batch.samples


def _copies(tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
