"""What a search may choose."""

from __future__ import annotations

import pytest

from signs_dist.searching.space import Choices, Range, combinations, draw, edges, to_settings, value_at

NAME = Choices(name="optim.name", values=("sgd", "adamw"))
RATE = Range(name="optim.lr", low=0.001, high=1.0, is_log=True)
MOMENTUM = Range(name="optim.momentum", low=0.8, high=0.9, when={"optim.name": "sgd"})
BATCH = Range(name="train.global_batch", low=16, high=64, step=16, is_whole=True)


def test_a_grid_has_each_combination_once_and_no_setting_without_its_condition() -> None:
    decay = Choices(name="optim.nesterov", values=(True, False), when={"optim.name": "sgd"})
    assert combinations([NAME, decay]) == [
        {"optim.name": "sgd", "optim.nesterov": True},
        {"optim.name": "sgd", "optim.nesterov": False},
        {"optim.name": "adamw"},
    ]
    assert combinations([]) == [{}]


@pytest.mark.parametrize(
    ("dimension", "share", "value"),
    [
        (NAME, 0.0, "sgd"),
        (NAME, 0.999, "adamw"),
        (RATE, 0.0, 0.001),
        (RATE, 0.5, 0.03162),
        (RATE, 0.99999999, 1.0),
        (MOMENTUM, 0.5, 0.85),
        (BATCH, 0.0, 16),
        (BATCH, 0.26, 32),
        (BATCH, 0.999, 64),
        (Range(name="a", low=1, high=3, is_whole=True), 0.34, 2),
        (Range(name="a", low=1, high=100, is_whole=True, is_log=True), 0.5, 7),
        (Range(name="a", low=0.0, high=1.0, step=0.25), 0.99, 1.0),
        (Range(name="a", low=0.123456, high=0.123457), 0.5, 0.123457),  # never outside, whatever is rounded
    ],
)
def test_a_share_of_a_dimension(dimension: Choices | Range, share: float, value: object) -> None:
    found = value_at(dimension, share)
    assert found == value
    assert type(found) is type(value)


def test_a_draw_depends_on_seed_and_number_alone_and_keeps_its_values_when_the_space_grows() -> None:
    space = [NAME, RATE, MOMENTUM]
    draws = [draw(space, 7, number) for number in range(50)]
    assert draws == [draw(space, 7, number) for number in range(50)]
    assert draws != [draw(space, 8, number) for number in range(50)]
    assert [each["optim.lr"] for each in draws] == [draw([RATE, BATCH], 7, n)["optim.lr"] for n in range(50)]
    assert all(("optim.momentum" in each) == (each["optim.name"] == "sgd") for each in draws)
    assert len({each["optim.lr"] for each in draws}) == 50
    assert 10 < sum(each["optim.lr"] < 0.0316 for each in draws) < 40  # uniform in the logarithm


def test_the_edges_have_each_value_and_both_ends() -> None:
    found = edges([NAME, RATE, MOMENTUM, BATCH])
    assert {each["optim.lr"] for each in found} == {0.001, 1.0}
    assert {each["optim.momentum"] for each in found if "optim.momentum" in each} == {0.8, 0.9}
    assert {each["train.global_batch"] for each in found} == {16, 64}
    assert all("optim.momentum" not in each for each in found if each["optim.name"] == "adamw")


def test_a_choice_is_written_as_it_is_typed() -> None:
    assert to_settings({"optim.lr": 1e-05, "optim.betas": [0.9, 0.99], "model.weights": None}) == (
        "optim.lr=1.0e-05",
        "optim.betas=[0.9, 0.99]",
        "model.weights=null",
    )
