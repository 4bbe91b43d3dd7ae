from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from signs_dist.learning.weight_average import WeightAverage


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def fill(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_average_follows_by_hand_arithmetic() -> None:
    model = small_model()
    fill(model, 0)
    average = WeightAverage(model, decay=0.15)
    fill(model, 1)
    average.update()  # decay 1 / 10
    assert average.weights()["0.weight"].flatten()[0].item() == pytest.approx(0.9)
    average.update()  # (1 + 1) / (10 + 1) is above 0.15
    assert average.weights()["0.weight"].flatten()[0].item() == pytest.approx(1 - 0.1 * 0.15)


@pytest.mark.parametrize(("num_updates", "decay"), [(0, 0.1), (1, 2 / 11), (90, 0.91), (980, 0.99), (100_000, 0.99)])
def test_the_decay_warms_up(num_updates: int, decay: float) -> None:
    average = WeightAverage(small_model(), decay=0.99)
    average.num_updates = num_updates
    assert average.decay_now() == pytest.approx(decay)


def test_float_buffers_are_averaged_and_counters_copied() -> None:
    model = small_model()
    average = WeightAverage(model, decay=0.99)
    model.train()
    model(torch.randn(8, 3, 4, 4) + 5)
    before = average.weights()["1.running_mean"].clone()
    average.update()
    after, now = average.weights()["1.running_mean"], model.state_dict()["1.running_mean"]
    assert torch.allclose(after, before * 0.1 + now * 0.9)
    assert average.weights()["1.num_batches_tracked"].item() == 1


def test_swapped_in_and_back_bit_for_bit() -> None:
    model = small_model()
    average = WeightAverage(model, decay=0.9)
    fill(model, 3)
    average.update()
    own = snapshot(model)
    parameter = next(model.parameters())
    with average.swapped_into(model):
        assert same(snapshot(model), average.weights())
        assert not same(snapshot(model), own)
        assert next(model.parameters()) is parameter  # written in place: optimizers and wrappers keep their hold
    assert same(snapshot(model), own)


def test_swapped_back_after_an_error() -> None:
    model = small_model()
    average = WeightAverage(model, decay=0.9)
    fill(model, 3)
    with pytest.raises(KeyboardInterrupt), average.swapped_into(model):
        raise KeyboardInterrupt
    assert all(tensor.eq(3).all() for tensor in model.state_dict().values())


def test_swapping_does_not_change_the_average() -> None:
    model = small_model()
    average = WeightAverage(model, decay=0.9)
    before = {name: tensor.clone() for name, tensor in average.weights().items()}
    with average.swapped_into(model):
        fill(model, 7)
    assert same(average.weights(), before)


def test_resumed_from_its_state_it_goes_on_the_same() -> None:
    model = small_model()
    average = WeightAverage(model, decay=0.9)
    fill(model, 1)
    average.update()
    resumed = WeightAverage(model, decay=0.9)
    resumed.load_state_dict(copy.deepcopy(average.state_dict()))
    fill(model, 2)
    average.update()
    resumed.update()
    assert resumed.num_updates == 2
    assert same(resumed.weights(), average.weights())


def test_the_state_of_another_model_is_refused() -> None:
    average = WeightAverage(small_model(), decay=0.9)
    other = WeightAverage(nn.Sequential(nn.Linear(2, 2)), decay=0.9)
    with pytest.raises(KeyError):
        average.load_state_dict(other.state_dict())


def test_the_averages_are_plain_weights() -> None:
    model = small_model()
    average = WeightAverage(model, decay=0.9)
    fresh = small_model()
    fresh.load_state_dict(average.weights())
    assert same(snapshot(fresh), snapshot(model))
    assert not any(tensor.requires_grad for tensor in average.weights().values())
