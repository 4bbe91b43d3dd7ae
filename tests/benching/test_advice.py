"""What follows from which figures."""

from __future__ import annotations

from typing import Any

import pytest

from signs_dist.benching.advice import NOTHING, Advice, advise, choices
from signs_dist.benching.figures import Saving, Sums
from signs_dist.tuning.variants import Variant
from tests.benching.made import CHOSEN, make_figures, timing

ONE_THREAD = Variant(1, channels_last=True, precision="float32")
BFLOAT16 = Variant(2, channels_last=True, precision="bfloat16")
CONTIGUOUS = Variant(2, channels_last=False, precision="float32")
BOTH = Variant(2, channels_last=False, precision="bfloat16")


def with_variants(**more: Any) -> dict[str, Any]:
    """The chosen way takes 0.1 s; the others as given."""
    return {"variants": {CHOSEN: timing(0.1), **more.pop("others")}, **more}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, [NOTHING]),
        # The network is 2 times as fast; the 4 ms around it stay.
        (with_variants(others={BFLOAT16: timing(0.05)}), ["train.precision=bfloat16: 1.9 times as fast"]),
        (with_variants(others={BFLOAT16: timing(0.097)}), [NOTHING]),
        (with_variants(others={CONTIGUOUS: timing(0.08)}), ["train.channels_last=false: 1.2 times as fast"]),
        (
            with_variants(others={BFLOAT16: timing(0.08), CONTIGUOUS: timing(0.08), BOTH: timing(0.05)}),
            ["train.precision=bfloat16 train.channels_last=false: 1.9 times as fast"],
        ),
        (with_variants(others={ONE_THREAD: timing(0.05)}), ["train.num_threads=1: 1.9 times as fast"]),
        (
            with_variants(others={ONE_THREAD: timing(0.05)}, is_exact=True),
            ["train.num_threads=1 (in exact mode another result, bit for bit): 1.9 times as fast"],
        ),
        # The largest gain comes first.
        (
            with_variants(others={ONE_THREAD: timing(0.08), BFLOAT16: timing(0.05)}),
            ["train.precision=bfloat16: 1.9 times as fast", "train.num_threads=1: 1.2 times as fast"],
        ),
        # Waiting for images.
        ({"wait_share": 0.09, "storage": "files", "loading": {0: timing(0.01), 1: timing(0.005)}}, [NOTHING]),
        (
            {"wait_share": 0.5, "loading": {0: timing(0.05), 1: timing(0.06), 2: timing(0.03)}},
            ["data.num_workers=2: up to 2.0 times as fast (training waits for images 50 % of the time)"],
        ),
        (
            {"wait_share": 0.5, "loading": {0: timing(0.09), 2: timing(0.08)}},  # still slower than the network
            ["data.num_workers=2: up to 1.3 times as fast (training waits for images 50 % of the time)"],
        ),
        (
            {"wait_share": 0.75, "storage": "files", "loading": {0: timing(0.05)}},
            ["data.storage=packed: up to 4.0 times as fast (training waits for images 75 % of the time)"],
        ),
        # There was no room to measure the workers of the run.
        (
            {"wait_share": 0.75, "storage": "files", "num_workers": 8, "loading": {0: timing(0.05)}},
            ["data.storage=packed: up to 4.0 times as fast (training waits for images 75 % of the time)"],
        ),
        (
            {"wait_share": 0.2, "device_bytes": 13_271_040, "loading": {0: timing(0.02)}},
            [
                "data.storage=device holds all images, 13 MB, on the GPU: up to 1.2 times as fast (training waits for "
                "images 20 % of the time)"
            ],
        ),
        ({"wait_share": 0.09, "device_bytes": 13_271_040, "loading": {0: timing(0.02)}}, [NOTHING]),
        ({"wait_share": 0.2, "device_bytes": 13_271_040, "is_cached": True, "loading": {0: timing(0.02)}}, [NOTHING]),
        ({"wait_share": 0.2, "device_bytes": 1, "storage": "device", "loading": {0: timing(0.02)}}, [NOTHING]),
        # Saving.
        ({"saving": Saving(0.05, 27)}, [NOTHING]),
        (
            {"saving": Saving(0.52, 5, "checkpoint.every_seconds")},
            [
                "save less often: a larger checkpoint.every_seconds: up to 2.0 times as fast (a save takes 0.52 s, and "
                "there is one in 5 steps)"
            ],
        ),
        (
            {"saving": Saving(0.52, 5)},
            [
                "a faster disk for the run folder: each epoch ends with a save: up to 2.0 times as fast (a save takes "
                "0.52 s, and there is one in 5 steps)"
            ],
        ),
        # Sums over processes: 40 of the 104 ms of a step, but the loop shows no more than its own part of them.
        (
            {"world_size": 2, "sums": Sums(4_000_000, 0.04, 0.05, 0.001), "bare": timing(0.05)},
            [
                "train.global_batch=64, with half as many sums (another result): up to 1.2 times as fast (sums over "
                "processes take 40 of the 104 ms of a step)"
            ],
        ),
        ({"world_size": 2, "sums": Sums(4_000_000, 0.04, 0.05, 0.001)}, [NOTHING]),
        # Other programs.
        ({"core_wait_share": None}, [NOTHING]),
        ({"core_wait_share": 0.04}, [NOTHING]),
        ({"core_wait_share": 0.5, "device": "cuda:0 (a GPU)"}, [NOTHING]),
        (
            {"core_wait_share": 0.75},
            [
                "end other programs, or use a machine with free cores: up to 4.0 times as fast (a thread of this "
                "process waited 75 % of the time for a core, and all figures are lower for it, each in its own way: "
                "measure again then)"
            ],
        ),
        # They come first, also where something else seems to bring more: it may be due to them.
        (
            {"core_wait_share": 0.5, **with_variants(others={BFLOAT16: timing(0.01)})},
            [
                "end other programs, or use a machine with free cores: up to 2.0 times as fast (a thread of this "
                "process waited 50 % of the time for a core, and all figures are lower for it, each in its own way: "
                "measure again then)",
                *advise(make_figures(**with_variants(others={BFLOAT16: timing(0.01)}))),
            ],
        ),
        ({"core_wait_share": 1.2}, [advise(make_figures(core_wait_share=0.99))[0]]),
    ],
)
def test_what_is_advised(changes: dict[str, Any], told: list[str]) -> None:
    assert advise(make_figures(**changes)) == told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ["train.num_threads=auto chose 2, the fastest of 1, 2"]),
        ({"automatic": []}, []),
        ({"automatic": ["train.precision"]}, []),  # the machine has one precision
        (
            with_variants(others={ONE_THREAD: timing(0.05)}, automatic=["train.num_threads"]),
            ["train.num_threads=auto chose 2; 1 is 2.0 times as fast"],
        ),
        (
            with_variants(others={BFLOAT16: timing(0.2), BOTH: timing(0.01)}),  # another format says nothing of auto
            ["train.precision=auto chose float32, the fastest of float32, bfloat16"],
        ),
        (
            with_variants(others={BFLOAT16: timing(0.05)}),
            ["train.precision=auto chose float32; bfloat16 is 2.0 times as fast"],
        ),
    ],
)
def test_whether_auto_chose_the_fastest(changes: dict[str, Any], told: list[str]) -> None:
    assert choices(make_figures(**changes)) == told


def test_an_advice_without_a_reason() -> None:
    assert Advice("train.num_threads=1", 1.26).line == "train.num_threads=1: 1.3 times as fast"
