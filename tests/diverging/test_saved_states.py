"""The digests of what two runs have saved."""

from __future__ import annotations

from pathlib import Path

import pytest

import signs_dist as sd
from signs_dist.diverging.saved_states import SavedStates, bracket_of
from signs_dist.retraining.recorded_run import read_recorded_run
from tests.retraining.test_recorded_run import copy_of
from tests.sets import small_run, write_colour_set


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    colours = write_colour_set(folder / "colours", counts={"train": 8, "val": 4})
    more = ("checkpoint.every_steps=1", "checkpoint.keep=9", "train.precision=float32", "exact=true")
    sd.fit(
        sd.load_config(None, small_run(colours, *more, epochs=2, global_batch=8)), run_dir=folder / "run", quiet=True
    )
    return folder / "run"


def test_equal_runs_have_no_state_that_differs(trained: Path, tmp_path: Path) -> None:
    other = copy_of(trained, tmp_path / "copy")
    ours, theirs = SavedStates(read_recorded_run(trained)), SavedStates(read_recorded_run(other))
    assert ours.last == theirs.last == 6
    bracket = bracket_of(ours, theirs)
    assert (bracket.equal, bracket.differs) == (6, None)


def test_a_state_that_differs_is_found(trained: Path) -> None:
    ours, theirs = (SavedStates(read_recorded_run(trained)) for _ in range(2))
    theirs._digests |= {step: "other" for step in theirs.steps if step >= 4}
    bracket = bracket_of(ours, theirs)
    assert (bracket.equal, bracket.differs) == (3, 4)


def test_a_broken_checkpoint_is_passed_over(trained: Path, tmp_path: Path) -> None:
    other = read_recorded_run(copy_of(trained, tmp_path / "copy"))
    theirs = SavedStates(other)
    ours = SavedStates(read_recorded_run(trained))
    ours._digests, theirs._digests = {}, {}
    for cursor, path in other.states:
        if other.steps_done(cursor) == 6:
            path.write_bytes(b"broken")
    bracket = bracket_of(ours, theirs)
    assert (bracket.equal, bracket.differs) == (5, None)
