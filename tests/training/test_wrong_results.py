"""How a run ends whose check has found faulty hardware."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.checkpointing.store import Cursor
from signs_dist.errors import FaultyHardwareError, TrainingFailedError, WrongResultError
from signs_dist.monitoring.beats import Identity
from signs_dist.run_folder.other_machine import WRONG_RESULTS, read_other_machine, read_why
from signs_dist.run_folder.suspects import read_suspicion
from signs_dist.training.wrong_results import describe_finding, describe_state, end_wrong
from tests.training.parts import make_process, make_trainer

CLEAN = Cursor(1, 1)


def found(*ranks: int, is_certain: bool = True, clean: Cursor | None = CLEAN, world_size: int = 3) -> WrongResultError:
    suspects = [Identity(rank, world_size, f"n{rank}", 7, "cuda:0", "") for rank in ranks]
    return WrongResultError("the weights", suspects, is_certain=is_certain, step=1009, clean=clean)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            found(1),
            "rank 1 on n1 (cuda:0) got another result than the other processes from the same input: the weights, at "
            "step 1,009. Its hardware is faulty.",
        ),
        (
            found(0, 1, is_certain=False, world_size=2),
            "one of these two got another result from the same input: rank 0 on n0 (cuda:0), rank 1 on n1 (cuda:0): "
            "the weights, at step 1,009. The hardware of one is faulty.",
        ),
        (
            found(0, 1, 2, is_certain=False),
            "at least one of these three got another result from the same input: rank 0 on n0 (cuda:0), rank 1 on n1 "
            "(cuda:0), rank 2 on n2 (cuda:0): the weights, at step 1,009. The hardware of at least one is faulty.",
        ),
        (
            found(0, world_size=1),
            "rank 0 on n0 (cuda:0) computed something twice from the same input, with two results: the weights, at "
            "step 1,009. Its hardware is faulty.",
        ),
    ],
)
def test_what_is_said_of_the_process(error: WrongResultError, told: str) -> None:
    assert describe_finding(error) == told


@pytest.mark.parametrize(
    ("clean", "newest", "told"),
    [
        (None, None, "No check before it was without a difference: the same command begins again."),
        (
            Cursor(1, 1),
            None,
            "A check without a difference came after the states up to step 5, and none of them is left: the same "
            "command begins again.",
        ),
        (
            Cursor(1, 1),
            Path("epoch-0001.pt"),
            "A check without a difference came after the states up to step 5; the newest of them is epoch-0001.pt, "
            "from which the same command resumes.",
        ),
    ],
)
def test_what_is_said_of_the_states(clean: Cursor | None, newest: Path | None, told: str) -> None:
    assert describe_state(found(1, clean=clean), newest, 4) == told


def test_it_is_noted_for_the_resume_and_for_the_requeue(tmp_path: Path) -> None:
    process = make_process(job="7.1")
    made = make_trainer(tmp_path, process=process)
    with pytest.raises(FaultyHardwareError, match=r"rank 1 on n1 .* Nothing was saved since\.") as caught:
        end_wrong(found(1), made.folder, made.saver, process, steps_per_epoch=4)
    assert (caught.value.identity.rank, caught.value.nodes) == (1, ("n1",))
    assert caught.value.identity.log == str(made.folder.logs / "rank1.log")
    suspicion = read_suspicion(made.folder)
    assert suspicion is not None
    assert (suspicion.step, suspicion.clean, suspicion.what) == (1009, (1, 1), describe_finding(found(1)))
    assert read_other_machine(made.folder, "7.1") == ("n1",)
    assert read_why(made.folder, "7.1") == WRONG_RESULTS


def test_the_process_is_named_also_where_nothing_can_be_written(tmp_path: Path) -> None:
    """As on a full disk: the later states are no suspects for the next attempt, so a person has to remove them."""
    process = make_process(job="7.1")
    made = make_trainer(tmp_path, process=process)

    def refuse() -> None:
        raise TrainingFailedError("another run has taken over the folder.")

    made.folder.require_held = refuse
    with pytest.raises(FaultyHardwareError, match=r"rank 1 on n1 .* But .*suspect\.json could not be written.*by hand"):
        end_wrong(found(1), made.folder, made.saver, process, steps_per_epoch=4)
