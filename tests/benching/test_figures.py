"""Figures as values."""

from __future__ import annotations

import json

import pytest

from signs_dist.benching.figures import Saving, Sums, as_json
from tests.benching.made import make_figures


def test_a_save_is_shared_by_the_steps_between() -> None:
    assert make_figures(saving=Saving(0.5, 5)).saving_seconds == pytest.approx(0.204)


@pytest.mark.parametrize(("world_size", "rate"), [(2, 4e6), (4, 6e6)])
def test_what_each_process_sends_in_a_ring(world_size: int, rate: float) -> None:
    assert Sums(400_000, 0.1, 0.2, 0.001).bytes_per_second(world_size) == pytest.approx(rate)


def test_the_figures_of_a_file() -> None:
    figures = make_figures(world_size=2, sums=Sums(400_000, 0.1, 0.2, 0.001))
    found = json.loads(json.dumps(as_json(figures, ["train.num_threads=1: 1.3 times as fast"])))
    assert found["version"] == 1
    assert found["images_per_second"]["bare"] == pytest.approx(320)
    assert found["images_per_second"]["data"] == pytest.approx(32 / 0.104)
    assert found["variants"][1]["num_threads"] == 1
    assert found["loader"][1] == {"num_workers": 1, "images_per_second": pytest.approx(16_000)}
    assert found["sums"]["bytes_per_second"] == pytest.approx(4e6)
    assert found["operations"] == [{"name": "aten::addmm", "share": pytest.approx(0.25), "calls": 6}]
    assert found["advice"] == ["train.num_threads=1: 1.3 times as fast"]


def test_one_process_sums_nothing() -> None:
    assert as_json(make_figures(), [])["sums"] is None
