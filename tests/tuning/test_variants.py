"""Which ways to compute a network are measured."""

from __future__ import annotations

import pytest

from signs_dist.tuning.variants import Variant, fitting_batch, list_variants, precisions, thread_counts


@pytest.mark.parametrize(("cores", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (16, [1, 2, 4, 8, 16])])
def test_numbers_of_threads(cores: int, counts: list[int]) -> None:
    assert thread_counts(cores) == counts


@pytest.mark.parametrize(
    ("device_type", "has_bfloat16", "names"),
    [
        ("cpu", False, ["float32"]),
        ("cpu", True, ["float32", "bfloat16"]),
        ("cuda", True, ["float32", "bfloat16", "float16"]),
        ("cuda", False, ["float32", "float16"]),
    ],
)
def test_only_what_the_device_computes_in(device_type: str, has_bfloat16: bool, names: list[str]) -> None:
    assert precisions(device_type, has_bfloat16=has_bfloat16) == names


def test_the_ways_of_a_cpu() -> None:
    chosen = Variant(2, channels_last=True, precision="bfloat16")
    assert [variant.name for variant in list_variants(chosen, 2, ["float32", "bfloat16"], "cpu")] == [
        "2 threads, channels_last, bfloat16",
        "1 thread, channels_last, bfloat16",
        "2 threads, channels_last, float32",
        "2 threads, contiguous, float32",
        "2 threads, contiguous, bfloat16",
    ]


def test_on_a_gpu_threads_are_not_varied() -> None:
    found = list_variants(Variant(4, channels_last=False, precision="float32"), 64, ["float32"], "cuda")
    assert [variant.name for variant in found] == [
        "4 threads, contiguous, float32",
        "4 threads, channels_last, float32",
    ]


@pytest.mark.parametrize(
    ("batch", "per_image", "fits"), [(32, 0.001, 32), (32, 0.1, 8), (32, 9.0, 2), (3, 9.0, 3), (1, 9.0, 1), (6, 9, 3)]
)
def test_a_batch_that_fits(batch: int, per_image: float, fits: int) -> None:
    assert fitting_batch(batch, per_image, seconds=1.0) == fits
