"""The digests of the states that a run has saved: from its metrics where it has written them, else from checkpoints."""

from __future__ import annotations

from pathlib import Path

from signs_dist.checkpointing.store import read_checkpoint
from signs_dist.diverging.brackets import Bracket, find_bracket
from signs_dist.errors import CheckpointError, UserError
from signs_dist.retraining.recorded_run import RecordedRun


class SavedStates:
    """What a run has told of its states.

    Args:
        run: the run.

    Attributes:
        steps: steps done at each state whose digest is known or can be computed.
    """

    def __init__(self, run: RecordedRun) -> None:
        self._files: dict[int, Path] = {run.steps_done(cursor): path for cursor, path in run.states}
        self._digests: dict[int, str] = dict(read_state_lines(run))
        self.steps = sorted({*self._files, *self._digests})

    @property
    def last(self) -> int:
        """Steps done at the last state; 0 without one."""
        return self.steps[-1] if self.steps else 0

    def digest(self, steps_done: int) -> str | None:
        """The digest of a state; None if there is none, or if its checkpoint is broken."""
        if steps_done not in self._digests and steps_done in self._files:
            from signs_dist.checkpointing.state_digest import state_sha256

            try:
                self._digests[steps_done] = state_sha256(read_checkpoint(self._files[steps_done]))
            except (CheckpointError, UserError):
                del self._files[steps_done]
        return self._digests.get(steps_done)


def read_state_lines(run: RecordedRun) -> dict[int, str]:
    """Steps done → digest of the state, as an exact run writes it into metrics.jsonl."""
    from signs_dist.run_folder.records import StateLine

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
