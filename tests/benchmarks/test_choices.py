"""The benchmark of what `auto` chooses: what it measures, and what it says."""

from __future__ import annotations

import pytest

from benchmarks.choices import NETWORKS, Step, Way, config_of, in_fork, kinds_of, list_ways, table, take_turns, verdict

AUTO = Way(2, True, "bfloat16")
ONE = Way(1, True, "bfloat16")
SLOW = Way(1, False, "float32")


@pytest.mark.parametrize(
    ("flags", "kinds"),
    [
        ({"avx2", "avx512f", "avx512_bf16"}, ["native", "avx512", "avx2"]),
        ({"avx2", "avx512f", "amx_bf16"}, ["native", "avx512", "avx2"]),
        ({"avx2", "avx512f"}, ["native", "avx2"]),  # it is the kind without bfloat16 itself
        ({"avx2"}, ["native"]),
        (set(), ["native"]),
    ],
)
def test_kinds_of_cpu_that_can_be_measured(flags: set[str], kinds: list[str]) -> None:
    assert kinds_of(flags) == kinds


def test_the_ways_are_the_grid_and_one_change_at_a_time() -> None:
    names = [way.name for way in list_ways(AUTO, [1, 2], ["float32", "bfloat16"], compiles=False)]
    assert names == [
        "2 threads, channels_last, bfloat16",
        "1 thread, channels_last, float32",
        "1 thread, contiguous, float32",
        "2 threads, channels_last, float32",
        "2 threads, contiguous, float32",
        "1 thread, channels_last, bfloat16",
        "1 thread, contiguous, bfloat16",
        "2 threads, contiguous, bfloat16",
        "2 threads, channels_last, bfloat16, train.allocator=system",
        "2 threads, channels_last, bfloat16, optimizer not fused",
        "2 threads, channels_last, bfloat16, without oneDNN",
    ]
    assert list_ways(AUTO, [1], ["float32"], compiles=True)[-1].change == "torch.compile"


def test_ways_take_turns_and_hopeless_ones_are_measured_once() -> None:
    taken = {AUTO: 2.0, ONE: 1.5, SLOW: 9.0}
    order: list[tuple[Way, float]] = []

    def measure(way: Way, shortest: float) -> Step:
        order.append((way, shortest))
        return Step(taken[way], 1.0)

    found = take_turns([AUTO, ONE, SLOW], measure, 3)
    assert [way for way, _ in order] == [AUTO, ONE, SLOW, AUTO, ONE, AUTO, ONE]
    assert [shortest for _, shortest in order][:3] == [float("inf"), 2.0, 1.5]
    assert found == {way: Step(seconds, 1.0) for way, seconds in taken.items()}


def test_what_is_said_of_auto() -> None:
    steps = {AUTO: Step(0.1, 0.2), ONE: Step(0.2, 0.2)}
    assert verdict(AUTO, steps) == "auto is the fastest: 2 threads, channels_last, bfloat16"
    assert verdict(ONE, steps) == (
        "auto reaches 0.50 of the speed of the fastest: 1 thread, channels_last, bfloat16; the fastest: 2 threads, "
        "channels_last, bfloat16"
    )
    assert table(AUTO, steps) == [
        "  2 threads, channels_last, bfloat16     100.0 ms   1.00     200.0 ms   auto",
        "  1 thread, channels_last, bfloat16      200.0 ms   0.50     200.0 ms",
    ]


@pytest.mark.parametrize("name", list(NETWORKS))
def test_each_network_has_a_config(name: str) -> None:
    assert config_of(name).train.global_batch in (8, 32)


def test_a_measurement_is_a_process_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    assert in_fork(lambda: Step(0.5, 0.25)) == Step(0.5, 0.25)

    def fail() -> Step:
        raise RuntimeError("no such kernel")

    with pytest.raises(SystemExit, match="a measurement has failed"):
        in_fork(fail)
    assert "no such kernel" in capfd.readouterr().err
