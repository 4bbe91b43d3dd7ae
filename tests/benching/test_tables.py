"""What is printed."""

from __future__ import annotations

import io
from typing import Any

import pytest

from signs_dist.benching.figures import Saving, Sums
from signs_dist.benching.tables import describe_batch, describe_way, show_figures
from signs_dist.console.screen import Screen
from tests.benching.made import make_figures


def printed(*, quiet: bool = False, **changes: Any) -> list[str]:
    stream = io.StringIO()
    screen = Screen(is_terminal=False, quiet=quiet, file=stream)
    show_figures(screen, make_figures(**changes), ["train.precision=auto chose float32"], ["one: 1.2 times as fast"])
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def test_everything_of_one_process() -> None:
    assert printed() == [
        "images/s a step",
        "network alone, random images 320 100 ms",
        "training, with data 308 104 ms 0.96 of the network alone; data wait 1.0 %",
        "training, with saves 306 105 ms 0.993 of that; a save in 27 steps, 20.0 ms each",
        "parts of a step: forward and loss 30.0 ms, backward 60.0 ms, optimizer 10.0 ms, images, augmented 2.0 ms",
        "network alone images/s a step",
        "2 threads, channels_last, float32 320 100 ms this run",
        "1 thread, channels_last, float32 178 180 ms 0.56 times as fast",
        "loader alone images/s a step",
        "in the training process 32,000 1.0 ms this run",
        "1 worker 16,000 2.0 ms",
        "train.precision=auto chose float32",
        "most expensive operations of 3 steps:",
        "25.0 % 33.33 ms a step 2 calls aten::addmm linear layers, forward",
        "what to change:",
        "one: 1.2 times as fast",
    ]


def test_the_sums_of_several_processes() -> None:
    lines = printed(world_size=2, sums=Sums(4_600_000, 0.1, 0.2, 0.00031))
    place = lines.index("sums over 2 processes each")
    assert lines[place + 1 : place + 4] == [
        "gradient, 4.6 MB 100 ms 46 MB/s a process",
        "gradient, in exact mode 200 ms",
        "one number 0.310 ms",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"saving": Saving(0.1, 1)}, "training, with saves 157 204 ms 0.510 of that; a save each step, 100 ms each"),
        ({"batch": 2}, "network alone, random images 20 100 ms"),
        ({"batch": 1, "num_workers": 1}, "1 worker 500 2.0 ms this run"),
        (
            {"has_sizes": True},
            "with train.progressive_sizes, the first epochs have smaller images: they are not measured",
        ),
        ({"step": "no CUDA graph: train.graph=false"}, "a step with images is no CUDA graph: train.graph=false"),
        ({"is_cached": True}, "with model.cache_features, later epochs train the head alone: they are not measured"),
    ],
)
def test_one_line(changes: dict[str, Any], line: str) -> None:
    assert line in printed(**changes)


def test_quiet_tells_what_to_change_only() -> None:
    assert printed(quiet=True) == ["one: 1.2 times as fast"]


def test_how_the_run_computes() -> None:
    assert describe_way(make_figures()) == "cpu, 2 cores a process, 1 process; 2 threads, channels_last, float32"
    several = describe_way(make_figures(num_cores=1, world_size=4))
    assert several == "cpu, 1 core a process, 4 processes; 2 threads, channels_last, float32"


def test_a_smaller_batch_is_said() -> None:
    assert describe_batch(make_figures()) == "32 images a step"
    assert describe_batch(make_figures(batch=4)) == (
        "4 images a step: the 32 of train.global_batch take too long to measure; --seconds allows more"
    )
