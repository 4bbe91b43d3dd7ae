"""The drill's order of work; whole drills are in tests/test_drill.py."""

from __future__ import annotations

import itertools
import random
import signal
import sys
from pathlib import Path

import pytest

from signs_dist.errors import OtherArithmeticError, UserError
from signs_dist.rehearsal import killing
from signs_dist.rehearsal.killing import Drill, Kill, shuffled_means
from signs_dist.rehearsal.means import MEANS, Attempt, KillInSave, Means, NoKill, SendSignal
from signs_dist.rehearsal.verdicts import Verdict
from signs_dist.run_folder.folder import RunFolder


@pytest.mark.slow
@pytest.mark.parametrize("means", [KillInSave("open", 1), SendSignal(signal.SIGTERM, True, 5, 600)])
def test_an_attempt_that_fails_by_itself_is_no_kill(tmp_path: Path, means: Means) -> None:
    # As where a second process finds no GPU: torchrun's exit code does not tell.
    broken = ["data.root=nowhere"]
    doomed = Drill(tmp_path, broken, [1, 2], random.Random(0), is_balanced=False)
    with pytest.raises(UserError, match="nowhere"):
        doomed.run_attempt(RunFolder(tmp_path / "run"), 1, 1, 2, means)


class Touches(NoKill):
    """A means that was used, but is not what ended the processes."""

    def end(self, attempt: Attempt, choose: random.Random) -> str:
        attempt.killed_file.touch()
        return "killed"


def test_an_attempt_that_computes_other_bits_is_no_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = [sys.executable, "-c", "import sys; print('error: exact=true: other bits'); sys.exit(4)"]
    monkeypatch.setattr(killing, "launch_command", lambda module, world_size, arguments: program)
    drill = Drill(tmp_path, [], [1], random.Random(0), is_balanced=False)
    with pytest.raises(OtherArithmeticError, match="exact=true: other bits"):
        drill.run_attempt(RunFolder(tmp_path / "run"), 1, 2, 1, Touches())


def test_each_means_comes_before_one_comes_again() -> None:
    names = shuffled_means(random.Random(0))
    for _ in range(3):
        assert sorted(next(names) for _ in MEANS) == sorted(MEANS)


class Imagined(Drill):
    """A drill whose attempts end at once; the second attempt of each run finishes it when `is_short`."""

    def __init__(self, root: Path, sizes: list[int], *, is_short: bool = False) -> None:
        super().__init__(root, [], sizes, random.Random(0), is_balanced=False)
        self.is_short = is_short
        self.attempts: list[tuple[int, int, int, bool]] = []

    def run_attempt(self, folder: RunFolder, run: int, attempt: int, world_size: int, means: Means) -> Kill:
        is_killed = not isinstance(means, NoKill)
        self.attempts.append((run, attempt, world_size, is_killed))
        is_finished = not is_killed or (self.is_short and attempt == 2)
        return Kill(run, attempt, world_size, "finished" if is_finished else "killed", 0, 1, 0, 0.1)


@pytest.fixture(autouse=True)
def _no_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        killing, "compare_with_whole", lambda whole, killed, number, is_balanced: Verdict(number, 40, "a", [])
    )


@pytest.mark.parametrize(
    ("num_kills", "num_runs", "shares"), [(5, 1, [5]), (5, 2, [3, 2]), (12, 2, [6, 6]), (2, 3, [1, 1, 0])]
)
def test_kills_are_spread_over_the_runs(tmp_path: Path, num_kills: int, num_runs: int, shares: list[int]) -> None:
    drill = Imagined(tmp_path, [1, 2, 3])
    verdicts = drill.run(2, num_kills, num_runs)
    assert drill.attempts[0] == (0, 1, 2, False)  # the whole run
    assert len(drill.kills) == num_kills
    assert [verdict.run for verdict in verdicts] == list(range(1, num_runs + 1))
    assert [sum(kill.run == run for kill in drill.kills) for run in range(1, num_runs + 1)] == shares
    lasts = [[attempt for attempt in drill.attempts if attempt[0] == run][-1] for run in range(1, num_runs + 1)]
    assert not any(is_killed for *_, is_killed in lasts)


def test_each_attempt_has_another_number_of_processes(tmp_path: Path) -> None:
    drill = Imagined(tmp_path, [1, 2, 3])
    drill.run(2, 20, 1)
    sizes = [world_size for run, _, world_size, _ in drill.attempts if run == 1]
    assert all(one != other for one, other in itertools.pairwise(sizes))
    assert set(sizes) == {1, 2, 3}
    alone = Imagined(tmp_path, [1])
    alone.run(1, 2, 1)
    assert {world_size for _, _, world_size, _ in alone.attempts} == {1}


def test_there_are_more_runs_if_some_finish_early(tmp_path: Path) -> None:
    drill = Imagined(tmp_path, [1, 2], is_short=True)
    verdicts = drill.run(2, 4, 1)
    assert (len(drill.kills), len(verdicts)) == (4, 4)
