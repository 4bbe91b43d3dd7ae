"""Trains segments of a run again on this process, and collects digests of its states and the numbers of its lines."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.checkpointing.fitting import resumes_optimizer
from signs_dist.checkpointing.state_digest import parts_sha256, sha256_of_parts
from signs_dist.checkpointing.store import read_checkpoint
from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.config.settings import Config
from signs_dist.errors import CheckpointError, NonFiniteLossError, UserError
from signs_dist.learning.metrics import Score
from signs_dist.learning.own_parts import build_metrics
from signs_dist.learning.probabilities import KeptProbabilities
from signs_dist.models.weights import read_plain
from signs_dist.proving.findings import Findings, Kept
from signs_dist.proving.job import Job
from signs_dist.proving.segments import Segment, joined
from signs_dist.retraining.again import Again, begin_again
from signs_dist.retraining.recorded_run import BEGINNING, RecordedRun, State
from signs_dist.run_folder.chain import covered_fields
from signs_dist.run_folder.records import EpochLine, StepLine
from signs_dist.training.final_weights import final_weights
from signs_dist.training.own_metrics import compute_on_main
from signs_dist.training.process import Process
from signs_dist.training.score_table import epoch_fields, score_fields
from signs_dist.training.subject_of_run import find_subject


class Retrainer:
    """Trains the segments of a job again. All processes do the same; rank 0 has what comes out.

    Args:
        job: what to train again.
        run: the run.
        process: where this process runs.
    """

    def __init__(self, job: Job, run: RecordedRun, process: Process) -> None:
        self._job, self._run, self._process = job, run, process
        self._states_on_disk = {
            run.steps_done(cursor): State(cursor, run.steps_done(cursor), path)
            for cursor, path in run.states
            if cursor.step == 0
        }
        self._lines: list[Mapping[str, Any]] = []
        self._states: dict[int, Mapping[str, str]] = {}
        self._result: dict[str, Any] | None = None

    def find(self, config: Config) -> Findings:
        """Train again, unless it would be for nothing: a checkpoint is damaged, images or settings are others, or this
        machine computes other bits than the run did.

        Args:
            config: from `config_again`.

        Raises:
            UserError: images or network cannot be used.
        """
        strategy, segments = self._process.strategy, joined(self._job.segments)
        kept = self._look_at_checkpoints(config) if strategy.is_main else []
        is_whole = strategy.share_value(not any(each.damage for each in kept), "look at the checkpoints")
        again = begin_again(config, self._process, self._run, self._state_at(segments[0].first if is_whole else 0))
        not_finite = None
        try:
            subject = self._find_subject(again)
            begun = time.perf_counter()
            is_same = all(subject[name] == self._job.subject[name] for name in self._job.compared)
            if is_whole and is_same and again.same_bits is not False:
                for segment in segments:
                    again = self._moved(again, config, segment.first)
                    self._train(again, segment)
        except NonFiniteLossError:
            not_finite = again.steps_done + 1
        finally:
            again.close()
        findings = self._findings(again, kept, subject, not_finite)
        return dataclasses.replace(findings, seconds=time.perf_counter() - begun)

    def _look_at_checkpoints(self, config: Config) -> list[Kept]:
        """The checkpoints at the borders of the segments, read and hashed."""
        borders = sorted({step for segment in self._job.segments for step in (segment.first, segment.last)})
        return [look_at(self._states_on_disk[step], config) for step in borders if step in self._states_on_disk]

    def _find_subject(self, again: Again) -> Mapping[str, str]:
        """The digests of settings, images and code here. One process reads the images for all."""
        strategy, prepared = self._process.strategy, again.stepper.prepared

        def find() -> Mapping[str, str] | None:
            return find_subject(prepared, self._process).as_dict() if strategy.is_main else None

        found: Mapping[str, str] = strategy.share_value(
            strategy.all_succeed(find, "read the images"), "read the images"
        )
        return found

    def _state_at(self, steps_done: int) -> State:
        return self._states_on_disk[steps_done] if steps_done else BEGINNING

    def _moved(self, again: Again, config: Config, steps_done: int) -> Again:
        """The run at another place."""
        if again.steps_done == steps_done:
            return again
        again.close()
        return begin_again(config, self._process, self._run, self._state_at(steps_done))

    def _train(self, again: Again, segment: Segment) -> None:
        num_steps = again.stepper.prepared.plan.num_steps
        states = {step for step in self._job.steps_of_states if segment.first < step <= segment.last}
        ends = {step for step in range(segment.first + 1, segment.last + 1) if step % num_steps == 0}
        numbers = set(self._job.steps_of_lines) - ends
        for stop in sorted(states | ends | {segment.last}):
            for step in again.train_until(stop):
                if step in numbers:
                    self._lines.append(covered_fields(StepLine(**self._numbers(again, step))))
            if stop in ends:
                self._lines.append(covered_fields(self._end_of_epoch(again, stop)))
            if stop in states:
                self._note_state(again, stop)
            if stop == self._job.result_step:
                self._note_result(again)

    def _end_of_epoch(self, again: Again, step: int) -> EpochLine:
        """The numbers of the epoch that has ended, validated if that was due or the run did."""
        config, fields = again.stepper.prepared.config, self._numbers(again, step)
        epoch = fields["epoch"]
        is_due = epoch % config.evaluate.every_epochs == 0 or epoch == config.train.epochs
        if is_due or step in self._job.validated:
            fields |= epoch_fields(self._evaluate(again, "val"))
        return EpochLine(**fields)

    def _numbers(self, again: Again, step: int) -> dict[str, Any]:
        """The fields of a line with the numbers of the epoch so far. All processes sum."""
        stepper, strategy = again.stepper, self._process.strategy
        plan = stepper.prepared.plan
        stepper.state.sync.settle()
        images = step * plan.global_batch
        return {
            "epoch": (step - 1) // plan.num_steps + 1,
            "step": step,
            "images": images,
            **score_fields("train", Score.from_sums(strategy.total(again.sums.tensors()))),
            "lr": stepper.state.learning_rate(images - plan.global_batch),
            "images_per_second": 0.0,
            "data_wait_share": 0.0,
        }

    def _note_state(self, again: Again, step: int) -> None:
        if self._process.strategy.is_main:
            parts = parts_sha256(again.content())
            self._states[step] = {**parts, "state": sha256_of_parts(parts)}

    def _note_result(self, again: Again) -> None:
        splits = again.stepper.prepared.data.splits
        self._result = {"split_sizes": {name: len(index) for name, index in splits.items()}}
        for split in again.stepper.evaluation_loaders:
            self._result |= score_fields(split, self._evaluate(again, split), in_full=True)
        self._result["weights_sha256"] = weights_sha256(final_weights(again.stepper))

    def _evaluate(self, again: Again, split: str) -> Score:
        stepper, strategy = again.stepper, self._process.strategy
        metrics = build_metrics(stepper.prepared.config.evaluate.metrics, stepper.state.num_classes)
        kept = KeptProbabilities(stepper.state.num_classes, keeps_all=bool(metrics))
        score = Score.from_sums(strategy.total(stepper.evaluate(split, kept).tensors()))
        if not metrics:
            return score
        labels = stepper.prepared.data.splits[split].labels
        return dataclasses.replace(score, metrics=compute_on_main(metrics, kept.in_full(), labels, strategy))

    def _findings(
        self, again: Again, kept: Sequence[Kept], subject: Mapping[str, str], not_finite: int | None
    ) -> Findings:
        prepared, told = again.stepper.prepared, self._run.fingerprints
        is_same = all(told[name] == own for name, own in prepared.fingerprints.items() if name in told)
        return Findings(
            same_images=is_same if told else None,
            same_bits=again.same_bits,
            differences=again.differences,
            arithmetic=again.arithmetic.as_dict(),
            subject=subject,
            kept=kept,
            model=_digest_of_model(self._run.folder.model) if self._process.strategy.is_main else None,
            lines=self._lines,
            states=self._states,
            result=self._result,
            not_finite=not_finite,
            num_steps=prepared.plan.num_steps,
        )


def look_at(state: State, config: Config) -> Kept:
    """Read and hash a checkpoint of a run with this config."""
    assert state.path is not None
    try:
        content = read_checkpoint(state.path)
        parts = parts_sha256(content)
    except (CheckpointError, UserError) as error:
        return Kept(state.steps_done, state.path.name, None, "", str(error).removesuffix("."))
    resumes = resumes_optimizer(content["config"], config)
    return Kept(state.steps_done, state.path.name, parts, sha256_of_parts(parts), resumes_optimizer=resumes)


def _digest_of_model(path: Path) -> str | None:
    """SHA-256 of the weights in model.pt; None without the file, "" if it cannot be read."""
    if not path.exists():
        return None
    with contextlib.suppress(UserError, TypeError, AttributeError):
        return weights_sha256(read_plain(path))
    return ""
