"""Segments of a run: pure functions of the places of its states."""

from __future__ import annotations

import pytest

from signs_dist.proving.segments import (
    Segment,
    choose,
    describe_rest,
    find_segments,
    joined,
    short_ones,
    without_other_subjects,
)


@pytest.mark.parametrize(
    ("kept", "lines", "expected"),
    [
        ([], [], []),
        ([], [4, 8], [(0, 8)]),
        ([4, 8], [4, 8], [(0, 4), (4, 8)]),
        ([8, 4], [4, 8, 12], [(0, 4), (4, 8), (8, 12)]),
        ([2, 8], [2, 4, 6, 8], [(0, 2), (2, 8)]),
        ([4, 99], [4, 8], [(0, 4), (4, 8)]),
    ],
)
def test_segments_lie_between_states_that_are_kept(
    kept: list[int], lines: list[int], expected: list[tuple[int, int]]
) -> None:
    assert find_segments(kept, lines) == [Segment(*each) for each in expected]


def test_segments_of_other_settings_are_left_out() -> None:
    segments = find_segments([4, 8], [4, 8, 12])
    assert without_other_subjects(segments, [4]) == [Segment(4, 8), Segment(8, 12)]
    assert without_other_subjects(segments, []) == segments


def test_long_segments_are_left_out() -> None:
    assert short_ones([Segment(0, 16), Segment(16, 20)], 4) == [Segment(16, 20)]


def test_a_seed_chooses_the_same_segments_again_in_the_order_of_the_run() -> None:
    segments = find_segments(range(4, 80, 4), range(4, 84, 4))
    chosen = choose(segments, 3, seed=5)
    assert chosen == choose(segments, 3, seed=5) == sorted(chosen)
    assert len({*chosen}) == 3
    assert len({tuple(choose(segments, 3, seed)) for seed in range(20)}) > 15
    assert choose(segments[:2], 3, seed=5) == segments[:2]


def test_each_segment_is_chosen_sometime() -> None:
    segments = find_segments(range(4, 80, 4), range(4, 84, 4))
    assert {segment for seed in range(200) for segment in choose(segments, 1, seed)} == {*segments}


def test_segments_that_follow_one_another_become_one() -> None:
    assert joined([Segment(8, 12), Segment(0, 4), Segment(4, 8), Segment(16, 20)]) == [Segment(0, 12), Segment(16, 20)]


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        (Segment(0, 27), "steps 1 to 27, epoch 1"),
        (Segment(27, 81), "steps 28 to 81, epochs 2 to 3"),
        (Segment(30, 40), "steps 31 to 40, epoch 2"),
        (Segment(26_973, 27_000), "steps 26,974 to 27,000, epoch 1000"),
    ],
)
def test_a_segment_is_told_by_its_steps_and_epochs(segment: Segment, expected: str) -> None:
    assert segment.describe(27) == expected


def test_the_rest_is_told_together() -> None:
    rest = [Segment(0, 4), Segment(4, 8), Segment(12, 16)]
    assert describe_rest(rest, 4) == "steps 1 to 8, epochs 1 to 2; steps 13 to 16, epoch 4"
