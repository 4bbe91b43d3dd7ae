"""The trial of ways to compute a network."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from signs_dist.distributed.strategy import SingleProcess
from signs_dist.training import trying_ways
from signs_dist.training.bare import BareNetwork
from signs_dist.training.trying_ways import WaysTrial
from signs_dist.tuning.choice import Choice
from signs_dist.tuning.rounds import Timing
from signs_dist.tuning.variants import Variant
from tests.training.parts import make_config

SET = Variant(4, channels_last=True, precision="float32")
STRATEGY = SingleProcess(torch.device("cpu"))


def make_trial(folder: Path, as_set: Variant = SET, strategy: SingleProcess = STRATEGY) -> WaysTrial:
    config = make_config(folder, "model.name=signs_net", "model.args={channels: 4, dropout: 0.5}")
    return WaysTrial(config, 3, 8, as_set, strategy)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying_ways, "ROUNDS_SECONDS", 0.05)
    monkeypatch.setattr(trying_ways, "LOOK_SECONDS", 0.01)


def seconds_of(monkeypatch: pytest.MonkeyPatch, seconds: Mapping[tuple[int, bool], float]) -> list[tuple[str, ...]]:
    """Let ways take these seconds, and nothing else; returns the names that were measured together, in turn."""
    measured: list[tuple[str, ...]] = []

    def measure(ways: Mapping[str, Any], **more: Any) -> dict[str, Timing]:
        measured.append(tuple(ways))
        taken = {name: seconds[int(name.split()[0]), "channels_last" in name] for name in ways}
        return {name: Timing(each, each, each, 1, 5) for name, each in taken.items()}

    monkeypatch.setattr(trying_ways, "measure", measure)
    monkeypatch.setattr(trying_ways, "seconds_per_image", lambda *_: 0.001)
    return measured


@pytest.mark.usefixtures("_quick")
def test_a_trial_leaves_generators_and_threads_as_they_were(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    before = torch.get_num_threads(), torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    choice = make_trial(tmp_path, Variant(1, channels_last=True, precision="float32")).run([1])
    assert choice is not None
    assert choice.num_threads == 1
    assert choice.factor >= 1
    after = torch.get_num_threads(), torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert torch.equal(before[1], after[1])
    assert (before[0], *before[2:]) == (after[0], *after[2:])


def test_fewer_threads_are_tried_until_they_are_slower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {(4, True): 1.0, (2, True): 0.8, (1, True): 1.5, (2, False): 0.7, (4, False): 2.0}
    measured = seconds_of(monkeypatch, seconds)
    assert make_trial(tmp_path).run([4, 2, 1]) == Choice(2, False, 1.429, 5)
    *looks, together = measured
    assert [name for (name,) in looks] == [
        "4 threads, channels_last, float32",
        "2 threads, channels_last, float32",
        "1 thread, channels_last, float32",
        "2 threads, contiguous, float32",
        "4 threads, contiguous, float32",
    ]
    assert together == (
        "2 threads, channels_last, float32",
        "2 threads, contiguous, float32",
        "4 threads, channels_last, float32",  # as set, though it is not near the shortest
    )


def test_a_way_that_is_set_and_takes_very_long_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So it is on 2 cores that 20 other programs keep busy.
    measured = seconds_of(monkeypatch, {(4, True): 9.0, (2, True): 1.0, (1, True): 0.9, (1, False): 1.2, (2, False): 2})
    assert make_trial(tmp_path).run([4, 2, 1]) == Choice(1, True, 10.0, 5)
    assert not any("4 threads" in name for name in measured[-1])


def test_one_thread_is_not_tried_after_half_as_many_were_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {(4, True): 1.0, (2, True): 1.9, (4, False): 1.1, (2, False): 2.0}
    measured = seconds_of(monkeypatch, seconds)
    assert make_trial(tmp_path).run([4, 2, 1]) == Choice(4, True, 1.0, 4)
    assert not any("1 thread," in name for names in measured for name in names)


def test_a_trial_that_takes_long_looks_at_few_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = seconds_of(monkeypatch, {(4, True): 1.0, (2, True): 0.5})
    monkeypatch.setattr(trying_ways, "LOOKS_SECONDS", -1.0)
    assert make_trial(tmp_path).run([4, 2, 1]) == Choice(2, True, 2.0, 2)  # one other number is always tried
    assert len(measured) == 3


def test_a_large_step_is_tried_with_fewer_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def make(config: Any, num_classes: int, batch: int, *more: Any, **named: Any) -> BareNetwork:
        sizes.append(batch)
        return BareNetwork(config, num_classes, batch, *more, **named)

    seconds_of(monkeypatch, {(4, True): 1.0, (4, False): 1.0})
    monkeypatch.setattr(trying_ways, "seconds_per_image", lambda *_: 0.06)
    monkeypatch.setattr(trying_ways, "BareNetwork", make)
    make_trial(tmp_path).run([4])
    assert sizes == [2, 2]


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), MemoryError()])
@pytest.mark.parametrize("place", ["seconds_per_image", "BareNetwork"])
def test_a_network_that_fails_is_left_to_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, place: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(trying_ways, place, fail)
    assert make_trial(tmp_path).run([4, 2]) is None


class OneOfTwo(SingleProcess):
    """Rank 0 of two processes, of which the other gives what `other` makes of this one's value."""

    def __init__(self, other: Callable[[Any], Any]) -> None:
        super().__init__(torch.device("cpu"))
        self._other = other

    def gather_values(self, value: Any, phase: str) -> list[Any]:
        return [value, self._other(value)]


def test_the_slowest_process_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_rank_1(value: Any) -> Any:
        """Two threads and channels_last take the other process four times as long."""
        if isinstance(value, tuple):
            return value
        return [Timing(4.0, 4.0, 4.0, 1, 5) if each.seconds == 0.5 else each for each in value]

    seconds_of(monkeypatch, {(4, True): 1.0, (2, True): 0.5, (1, True): 2.0, (2, False): 0.6, (4, False): 0.6})
    assert make_trial(tmp_path, strategy=OneOfTwo(of_rank_1)).run([4, 2, 1]) == Choice(2, False, 1.667, 5)


def test_processes_with_other_numbers_of_threads_compare_as_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else the process that compares more often would wait for the other for ever.
    seconds_of(monkeypatch, {(4, True): 1.0, (4, False): 0.8, (2, True): 1.0, (2, False): 0.8})
    compared: dict[int, int] = {}
    for num_threads in (4, 2):

        def same(value: Any, num_threads: int = num_threads) -> Any:
            compared[num_threads] = compared.get(num_threads, 0) + 1
            return value

        as_set = Variant(num_threads, channels_last=True, precision="float32")
        choice = make_trial(tmp_path, as_set, OneOfTwo(same)).run([4])
        assert choice == Choice(num_threads, False, 1.25, 2)
    assert compared[2] == compared[4]


def test_a_failure_of_another_process_ends_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds_of(monkeypatch, {(4, True): 1.0})
    other = OneOfTwo(lambda value: (float("inf"), 0.1))
    assert make_trial(tmp_path, strategy=other).run([4, 2, 1]) is None
