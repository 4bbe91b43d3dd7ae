from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from signs_dist.config.reading import load_config
from signs_dist.config.section import flatten
from signs_dist.results.differences import differing_settings


@pytest.mark.parametrize(
    ("settings", "differing"),
    [
        ([], {}),
        ([{"seed": 1}], {}),
        ([{"seed": 1}, {"seed": 1}], {}),
        ([{"seed": 1, "optim.lr": 0.1}, {"seed": 2, "optim.lr": 0.1}], {"seed": [1, 2]}),
        ([{"seed": 1}, {"seed": 2}, {"seed": 1}], {"seed": [1, 2, 1]}),
        # Where, how long and what is shown do not count.
        ([{"data.cache": "a", "log.samples": True}, {"data.cache": "b", "log.samples": False}], {}),
        ([{"data.cached": "a"}, {"data.cached": "b"}], {"data.cached": ["a", "b"]}),
        # One release knows the setting, the other does not.
        ([{"seed": 1}, {"seed": 1, "train.patience": 3}], {"train.patience": [None, 3]}),
        # The settings of a run that could not be read make nothing differ.
        ([{"seed": 1}, {}], {}),
        ([{"seed": 1}, {}, {"seed": 2}], {"seed": [1, None, 2]}),
        # Equal values of other types.
        ([{"data.mean": (0.5, 0.5)}, {"data.mean": [0.5, 0.5]}], {}),
        ([{"schedule.warmup_epochs": 1}, {"schedule.warmup_epochs": 1.0}], {}),
        ([{"data.pin_memory": True}, {"data.pin_memory": 1}], {"data.pin_memory": [True, 1]}),
        # Entries of a mapping.
        (
            [{"model.args": {"channels": 32, "depth": 2}}, {"model.args": {"depth": 2, "channels": 64}}],
            {"model.args.channels": [32, 64]},
        ),
        ([{"model.args": {}}, {"model.args": {"channels": 64}}], {"model.args.channels": [None, 64]}),
        (
            [{"augment.transforms": [{"A": {"p": 1, "q": 2}}]}, {"augment.transforms": [{"A": {"q": 2, "p": 1.0}}]}],
            {},
        ),
    ],
)
def test_settings_that_differ(settings: Sequence[Mapping[str, Any]], differing: Mapping[str, list[Any]]) -> None:
    assert differing_settings(settings) == differing


def test_the_order_is_that_of_the_settings() -> None:
    first = dict(flatten(load_config(None, [])))
    second = dict(flatten(load_config(None, ["optim.lr=0.05", "seed=3", "checkpoint.keep=9"])))
    assert list(differing_settings([first, second]).items()) == [("seed", [0, 3]), ("optim.lr", [0.1, 0.05])]
