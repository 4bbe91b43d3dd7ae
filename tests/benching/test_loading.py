"""The loader alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from signs_dist.benching import loading
from signs_dist.benching.loading import measure_loading, worker_counts
from signs_dist.data.plan import Shard
from signs_dist.environment.worker_limits import read_limits
from tests.training.parts import make_prepared


@pytest.mark.parametrize(
    ("cores", "chosen", "counts"),
    [(1, 0, [0, 1]), (2, 0, [0, 1, 2]), (2, 5, [0, 1, 2, 5]), (64, 16, [0, 1, 2, 4, 8, 16]), (6, 4, [0, 1, 2, 4, 6])],
)
def test_numbers_of_workers(cores: int, chosen: int, counts: list[int]) -> None:
    assert worker_counts(cores, chosen) == counts


def test_workers_for_which_there_is_no_room_are_omitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = dataclasses.replace(read_limits(), open_files=64, num_open_files=30)
    monkeypatch.setattr(loading, "read_limits", lambda: few)
    found = measure_loading(make_prepared(tmp_path), Shard(), [0, 8], seconds=0.001, share=lambda value: value)
    assert list(found) == [0]


def test_where_rank_0_has_no_room_no_process_loads(tmp_path: Path) -> None:
    asked: list[object] = []

    def of_rank_0(value: object) -> object:
        asked.append(value)
        return False

    assert measure_loading(make_prepared(tmp_path), Shard(), [0, 1], seconds=0.001, share=of_rank_0) == {}
    assert asked == [True, True]


def test_images_come_from_each_number_of_workers(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path)
    found = measure_loading(prepared, Shard(), [0, 1], seconds=0.01, share=lambda value: value)
    assert list(found) == [0, 1]
    assert all(timing.seconds > 0 for timing in found.values())
