"""The chain of an exact run's states while it trains: which states get a line, and when.

The digest of a state is computed in the thread that writes its checkpoint. The line is added by the training thread
when that thread has ended. A kill in between leaves a checkpoint without its line: the next attempt computes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from signs_dist.checkpointing.cursor import Cursor
from signs_dist.checkpointing.state_digest import PassingState, sha256_of_parts, state_sha256
from signs_dist.checkpointing.store import read_checkpoint
from signs_dist.run_folder.chain import chain_sha256, next_link
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import StateLine, StepLine, of_kind
from signs_dist.run_folder.subject import Subject
from signs_dist.training.earlier_attempt import EarlierAttempt
from signs_dist.training.run_state import RunState

is_written = True
"""Whether exact runs write a chain. Only `benchmarks/state_chain.py` changes it, to measure what the chain costs."""


def has_line(cursor: Cursor, steps_done: int, *, every_steps: int | None, num_steps: int) -> bool:
    """Whether the state at a place of an exact run gets a line, if it is saved: by the place alone, not by what led to
    the save, so that a run that was stopped there has the lines of one that was not.

    Args:
        cursor: the place.
        steps_done: the same as a number of steps since the start of the run.
        every_steps: `checkpoint.every_steps`.
        num_steps: of an epoch.
    """
    if not cursor.step:
        return cursor.epoch > 0
    # After an epoch's last step the epoch still has to be validated: its state gets a line then.
    return every_steps is not None and steps_done % every_steps == 0 and cursor.step < num_steps


@dataclasses.dataclass
class _Awaited:
    """A state whose checkpoint is being written.

    Attributes:
        line: without `state` and `chain`.
        metrics: the lines since the state before.
        passing: hashes the state.
        state: its digest, once the thread that writes has it.
    """

    line: StateLine
    metrics: list[StepLine]
    passing: PassingState
    state: str = ""


class StateChain:
    """The lines of states of one attempt, on the process that writes.

    Args:
        folder: the run folder. Lines after the place from which the attempt begins were dropped.
        subject: what this attempt trains.
        every_steps: `checkpoint.every_steps`.
        num_steps: of an epoch.
    """

    def __init__(self, folder: RunFolder, subject: Subject, *, every_steps: int | None, num_steps: int) -> None:
        self._folder, self._subject = folder, subject
        self._every_steps, self._num_steps = every_steps, num_steps
        self._previous, self._last_step = "", 0
        self._metrics: list[StepLine] = []
        self._awaited: _Awaited | None = None

    def begin(self, earlier: EarlierAttempt, run_state: RunState) -> None:
        """Go on from the lines that the folder has. A line that is missing for the state of `earlier` is added."""
        lines = self._folder.read_metrics()
        states = of_kind(lines, StateLine)
        last = max(states, key=lambda line: line.step, default=None)
        if earlier.path is not None and (last is None or last.step < run_state.steps_done):
            line = self._missing_line(earlier, run_state)
            if line is not None:
                last = next_link(lines, line)
                self._folder.add(last)
        if last is not None:
            self._previous, self._last_step = last.chain, last.step
        self._metrics = [line for line in lines if isinstance(line, StepLine) and line.step > self._last_step]

    def cover(self, line: StepLine) -> None:
        """Take a line of metrics.jsonl into the chain."""
        self._metrics.append(line)

    def watch(self, content: Mapping[str, Any], run_state: RunState) -> Mapping[str, Any]:
        """Before a save: the content to be written, whose tensors are hashed as they pass if the state gets a line.

        Args:
            content: of the checkpoint.
            run_state: the place.
        """
        self.add_line()
        if self._awaited is not None:  # its digest could not be computed: the next line covers its numbers
            self._metrics = [*self._awaited.metrics, *self._metrics]
            self._awaited = None
        place, steps_done = run_state.cursor, run_state.steps_done
        wanted = has_line(place, steps_done, every_steps=self._every_steps, num_steps=self._num_steps)
        if not wanted or steps_done <= self._last_step:
            return content
        line = self._line(run_state)
        self._awaited = _Awaited(line, self._metrics, PassingState(content))
        self._metrics = []
        return self._awaited.passing.content

    def hash_state(self) -> None:
        """In the thread that writes, when the checkpoint is whole or has failed: compute the digest.

        Raises:
            RuntimeError: another process has ended before it sent its part of the state.
        """
        awaited = self._awaited
        if awaited is not None and not awaited.state:
            awaited.state = sha256_of_parts(awaited.passing.parts_sha256())

    def add_line(self) -> None:
        """Add the line of the state that was saved, if its digest is known. Does not wait."""
        awaited = self._awaited
        if awaited is None or not awaited.state:
            return
        line = dataclasses.replace(awaited.line, state=awaited.state)
        line = dataclasses.replace(line, chain=chain_sha256(self._previous, line, awaited.metrics))
        self._folder.add(line)
        self._awaited, self._previous, self._last_step = None, line.chain, line.step

    def _line(self, run_state: RunState, **changes: Any) -> StateLine:
        line = StateLine(
            epoch=run_state.epoch, step=run_state.steps_done, state="", chain="", subject=self._subject.sha256
        )
        return dataclasses.replace(line, **changes)

    def _missing_line(self, earlier: EarlierAttempt, run_state: RunState) -> StateLine | None:
        """The line of the state from which the run resumes, without its chain; None if the state gets no line."""
        assert earlier.path is not None
        assert earlier.content is not None
        subject = Subject.from_dict(earlier.content["run"].get("subject"))
        if subject is None:  # an earlier release saved it, or a run that was not exact: the chain begins here
            changes: dict[str, Any] = {"since": run_state.steps_done}
        else:
            changes = {"subject": subject.sha256}
            every = earlier.content["config"].get("checkpoint", {}).get("every_steps")
            steps_done = run_state.steps_done
            if not has_line(run_state.cursor, steps_done, every_steps=every, num_steps=self._num_steps):
                return None
        return self._line(run_state, state=state_sha256(read_checkpoint(earlier.path)), **changes)


def make_chain(
    folder: RunFolder, subject: Subject | None, *, every_steps: int | None, num_steps: int
) -> StateChain | None:
    """The chain of an attempt; None in processes that do not write, and for a run without a subject."""
    if subject is None or not folder.is_writer or not is_written:
        return None
    return StateChain(folder, subject, every_steps=every_steps, num_steps=num_steps)
