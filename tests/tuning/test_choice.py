"""Which way a trial chooses."""

from __future__ import annotations

import pytest

from signs_dist.tuning.choice import Choice, choose, counts_to_try, slowest_of
from signs_dist.tuning.rounds import Timing
from signs_dist.tuning.variants import Variant

SET = Variant(2, channels_last=True, precision="float32")
ONE = Variant(1, channels_last=True, precision="float32")
PLAIN = Variant(2, channels_last=False, precision="float32")


@pytest.mark.parametrize(
    ("setting", "num_threads", "device_type", "counts"),
    [
        ("auto", [8], "cpu", [8, 4, 2, 1]),
        ("auto", [6, 6], "cpu", [6, 4, 2, 1]),
        ("auto", [1], "cpu", [1]),
        (3, [3], "cpu", [3]),  # a person has decided
        ("auto", [8, 4], "cpu", [8]),  # machines of two kinds
        ("auto", [8], "cuda", [8]),
    ],
)
def test_the_numbers_of_threads_that_are_tried(
    setting: int | str, num_threads: list[int], device_type: str, counts: list[int]
) -> None:
    assert counts_to_try(setting, num_threads, device_type) == counts


def timing(seconds: float, least: float) -> Timing:
    return Timing(seconds, least, 2 * seconds, 4, 5)


@pytest.mark.parametrize(
    ("timings", "chosen"),
    [
        ({SET: (1.0, 0.9)}, Choice(2, True, 1.0, 4)),
        ({SET: (1.0, 0.9), ONE: (0.5, 0.45)}, Choice(1, True, 2.0, 4)),
        ({SET: (1.0, 0.9), ONE: (0.97, 0.87)}, Choice(2, True, 1.0, 4)),  # less than 5 %
        ({SET: (1.0, 0.9), PLAIN: (0.8, 0.7), ONE: (0.75, 0.72)}, Choice(2, False, 1.286, 4)),
        # Faster in the median alone, or in one round alone: another program was busy for a moment.
        ({SET: (1.0, 0.5), ONE: (0.6, 0.55)}, Choice(2, True, 1.0, 4)),
        ({SET: (1.0, 0.9), ONE: (1.4, 0.6)}, Choice(2, True, 1.0, 4)),
    ],
)
def test_the_fastest_way_is_chosen_if_it_is_clearly_faster(
    timings: dict[Variant, tuple[float, float]], chosen: Choice
) -> None:
    assert choose({way: timing(*values) for way, values in timings.items()}, SET, 4) == chosen


def test_of_several_processes_the_slowest_counts() -> None:
    found = slowest_of([Timing(1.0, 0.5, 3.0, 4, 5), Timing(0.9, 0.8, 2.0, 4, 5)])
    assert found == Timing(1.0, 0.8, 3.0, 4, 5)
