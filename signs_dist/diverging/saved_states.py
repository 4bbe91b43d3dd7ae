"""The digests of the states that a run has saved: from its metrics where it has written them, else from checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signs_dist.checkpointing.state_digest import state_sha256
from signs_dist.checkpointing.store import read_checkpoint
from signs_dist.diverging.brackets import Bracket, find_bracket
from signs_dist.errors import CheckpointError, UserError
from signs_dist.retraining.recorded_run import RecordedRun
from signs_dist.run_folder.records import StateLine


class SavedStates:
    """What a run has told of its states.

    Args:
        run: the run.

    Attributes:
        steps: steps done at each state whose digest is known or can be computed.
    """

    def __init__(self, run: RecordedRun) -> None:
        self._files: dict[int, Path] = {run.steps_done(cursor): path for cursor, path in run.states}
        self._num_steps = run.num_steps
        self._digests: dict[int, str] = dict(read_state_lines(run))
        self.steps = sorted({*self._files, *self._digests})

    @property
    def last(self) -> int:
        """Steps done at the last state; 0 without one."""
        return self.steps[-1] if self.steps else 0

    def digest(self, steps_done: int) -> str | None:
        """The digest of a state; None if there is none, or if its checkpoint is broken."""
        if steps_done not in self._digests and steps_done in self._files:
            try:
                content = read_checkpoint(self._files[steps_done])
                self._digests[steps_done] = state_sha256(at_next_epoch(content, self._num_steps))
            except (CheckpointError, UserError):
                del self._files[steps_done]
        return self._digests.get(steps_done)


def at_next_epoch(content: Mapping[str, Any], num_steps: int | None) -> Mapping[str, Any]:
    """The content of a checkpoint; of one after the last step of an epoch as it is after the epoch's evaluation.

    Args:
        content: of a checkpoint.
        num_steps: steps of an epoch; None if it is not known.
    """
    cursor = content["cursor"]
    if num_steps is None or cursor["step"] != num_steps:
        return content
    return {**content, "cursor": {"epoch": cursor["epoch"] + 1, "step": 0}}


def read_state_lines(run: RecordedRun) -> dict[int, str]:
    """Steps done → digest of the state, as an exact run writes it into metrics.jsonl."""
    return {line.step: line.state for line in run.folder.read_metrics() if isinstance(line, StateLine)}


def bracket_of(left: SavedStates, right: SavedStates) -> Bracket:
    """Between which saved states two runs part."""
    common = set(left.steps) & set(right.steps)
    while True:
        broken: set[int] = set()

        def is_equal(step: int, broken: set[int] = broken) -> bool:
            ours, theirs = left.digest(step), right.digest(step)
            if ours is None or theirs is None:
                broken.add(step)
            return ours == theirs

        bracket = find_bracket(sorted(common), is_equal)
        if not broken:
            return bracket
        common -= broken
