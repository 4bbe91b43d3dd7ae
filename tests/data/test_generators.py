"""Seeding the generators, and putting them back."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import pytest
import torch

from signs_dist.data.generators import all_generators_kept, device_generator_kept, seed_all, seed_device


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))


@pytest.mark.parametrize("key", [0, 2**32 - 1, 2**63 - 1])
def test_one_key_gives_one_draw_of_each_generator(key: int) -> None:
    with all_generators_kept():
        seed_all(key)
        first = draw()
        seed_all(key)
        assert draw() == first
        assert len(set(first)) == 3
        seed_all(key ^ 1)
        assert all(one != other for one, other in zip(draw(), first, strict=True))
        seed_all(key ^ 2**40)  # torch's generator of the CPU uses the lower half of a seed only
        assert all(one != other for one, other in zip(draw()[:2], first, strict=False))


def test_the_callers_generators_go_on_as_if_nothing_had_been() -> None:
    seed_all(1)
    expected = [draw(), draw()]
    seed_all(1)
    found = [draw()]
    with contextlib.suppress(KeyError), all_generators_kept():
        seed_all(7)
        draw()
        raise KeyError
    assert [*found, draw()] == expected


def test_the_generator_of_a_device_is_kept() -> None:
    cpu = torch.device("cpu")
    seed_device(cpu, 3)
    expected = float(torch.rand(()))
    seed_device(cpu, 3)
    with device_generator_kept(cpu):
        seed_device(cpu, 4)
        assert float(torch.rand(())) != expected
    assert float(torch.rand(())) == expected
