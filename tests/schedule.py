"""In which order the workers of a test run take the tests, and which tests stay together on one worker.

A machine is busy when as many workers compute as it has cores. Tests of SLURM, of hangs and of time limits mostly wait:
begun together, they would leave the cores idle. So they are spread over the time of all others.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from xdist.scheduler import LoadScopeScheduling

WAITING: Mapping[str, float] = {
    "test_slurm_other_machine": 25,
    "test_slurm_requeue": 18,
    "test_elastic": 7,
    "test_slurm_doctor": 12,
    "test_slurm_submit": 6,
    "test_many_processes": 5,
    "test_dev_cluster": 3,
}
"""Files whose slow tests mostly wait → about how many seconds each of these tests takes."""
COMPUTING: Mapping[str, float] = {
    "test_resume_runs": 60,
    "test_wheel": 45,
    "test_commands": 40,
    "test_dashboards": 40,
    "test_docs": 25,
    "test_diverge": 25,
    "test_faulty_hardware": 25,
    "test_doctor": 20,
    "test_replay": 20,
    "test_prove": 20,
    "test_state_chain": 15,
    "test_sweep": 20,
    "test_transfer": 20,
    "test_parity": 18,
    "test_second_process": 16,
    "test_drill": 15,
    "test_export": 15,
    "test_recipes": 14,
    "test_torchrun": 14,
    "test_torchvision_models": 14,
    "test_quick_start": 13,
    "test_own_loop": 12,
    "test_own_project": 12,
    "test_growth": 9,
    "test_hangs": 9,
    "test_autotune": 7,
    "test_portable_bits": 7,
}
"""Files whose slow tests compute longest → about how many seconds these tests take together."""
QUICK_FIRST = frozenset(
    {
        *("test_augment", "test_browser", "test_fake_devices", "test_fit", "test_graphed_step", "test_loader"),
        *("test_races", "test_run", "test_trained_model", "test_trainer", "test_warm_processes"),
    }
)
"""Files whose quick tests take longest together: begun last, they would keep one worker when all others are done."""
SLOW_SECONDS, QUICK_SECONDS = 2.0, 0.04
"""What a slow test takes in any other file, and what a quick one takes."""
SHARE = 0.75
"""In which part of the time of all other tests those that wait are begun."""


def in_order(tests: Sequence[tuple[str, bool]]) -> list[int]:
    """The places of tests in the order in which they are begun.

    Slow tests come before quick ones, and of each kind the files that take longest. Tests that wait are spread
    evenly over the time of all others. Tests of a file stay in their order.

    Args:
        tests: for each test the name of its file without `.py`, and whether it is slow.
    """
    waiting = [place for place, (file, is_slow) in enumerate(tests) if is_slow and file in WAITING]
    waiting.sort(key=lambda place: -WAITING[tests[place][0]])
    others = [place for place, (file, is_slow) in enumerate(tests) if not (is_slow and file in WAITING)]
    others.sort(key=lambda place: _rank(*tests[place]))
    number_slow = collections.Counter(file for file, is_slow in tests if is_slow)
    seconds = [
        (COMPUTING[file] / number_slow[file] if file in COMPUTING else SLOW_SECONDS) if is_slow else QUICK_SECONDS
        for file, is_slow in (tests[place] for place in others)
    ]
    waits = [WAITING[tests[place][0]] for place in waiting]
    stretch = SHARE * sum(seconds) / max(sum(waits), 1.0)
    entries = [
        *((stretch * begin, 0, place) for begin, place in zip(_begins(waits), waiting, strict=True)),
        *((begin, 1, place) for begin, place in zip(_begins(seconds), others, strict=True)),
    ]
    return [place for _, _, place in sorted(entries, key=lambda entry: entry[:2])]


def _begins(seconds: Sequence[float]) -> list[float]:
    """When each of several begins, one after the other."""
    return [0.0, *itertools.accumulate(seconds)][: len(seconds)]


def _rank(file: str, is_slow: bool) -> tuple[bool, float]:
    """The lower, the sooner a test begins that does not wait."""
    return not is_slow, -COMPUTING.get(file, 0) if is_slow else -(file in QUICK_FIRST)


class FilesTogether(LoadScopeScheduling):  # type: ignore[misc]
    """Tests of a file go to one worker, which makes their fixtures once; those that wait are handed out one by one."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return nodeid if PurePath(path).stem in WAITING else path
