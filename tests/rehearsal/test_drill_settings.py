"""What a drill trains, and on how many processes."""

from __future__ import annotations

from typing import Any

import pytest

from signs_dist.config.settings import Config
from signs_dist.errors import UserError
from signs_dist.rehearsal.drill_settings import choose_sizes, short_run_settings


def config(**sections: Any) -> Config:
    return Config.model_validate(sections)


@pytest.mark.parametrize(
    ("sections", "overrides", "world_size", "expected"),
    [
        ({}, [], 2, {"train.micro_batch=8", "train.epochs=2", "train.epoch_steps=20"}),
        ({"train": {"global_batch": 6}}, [], 3, {"train.micro_batch=1"}),
        ({"train": {"micro_batch": 16}}, [], 1, {"exact=true", "log.samples=true"}),
        (
            {"schedule": {"name": "cosine", "warmup_epochs": 3}, "train": {"micro_batch": 16}},
            [],
            2,
            {"schedule.warmup_epochs=1.0"},
        ),
    ],
)
def test_settings_make_a_run_short(sections: Any, overrides: list[str], world_size: int, expected: set[str]) -> None:
    assert expected <= set(short_run_settings(config(**sections), overrides, world_size))


def test_given_settings_win() -> None:
    given = ["train.epochs=7", "checkpoint.every_steps=1"]
    names = [setting.partition("=")[0] for setting in short_run_settings(config(train={"epochs": 7}), given, 2)]
    assert not {"train.epochs", "checkpoint.every_steps"} & set(names)


def drilled(**train: Any) -> Config:
    return config(exact=True, log={"samples": True, "every_steps": 1}, train={"global_batch": 8, **train})


@pytest.mark.parametrize(
    ("micro_batch", "world_size", "num_gpus", "expected"),
    [
        (2, 2, 0, [1, 2, 3]),
        (2, 4, 0, [1, 2, 3, 4]),
        (8, 1, 0, [1]),
        (4, 2, 0, [1, 2]),
        (2, 1, 1, [1]),
        (2, 2, 2, [1, 2]),
        (2, 2, 8, [1, 2, 3]),
    ],
)
def test_sizes_are_1_to_one_more(micro_batch: int, world_size: int, num_gpus: int, expected: list[int]) -> None:
    assert choose_sizes(drilled(micro_batch=micro_batch), world_size, num_gpus) == expected


def test_what_leaves_nothing_to_kill_or_to_compare_is_refused() -> None:
    with pytest.raises(UserError, match=r"has 4 micro-batches of 2\. Type --world-size 4"):
        choose_sizes(drilled(micro_batch=2), 5, 0)
    with pytest.raises(UserError, match="and sets them itself: omit them"):
        choose_sizes(config(), 2, 0)
    with pytest.raises(UserError, match=r"this machine shows 1\. Type --world-size 1, or set CUDA_VISIBLE_DEVICES"):
        choose_sizes(drilled(micro_batch=2), 2, 1)
