"""Work on this process, with the config's rules for its devices."""

from __future__ import annotations

import pytest

from signs_dist.config.reading import load_config
from signs_dist.errors import UserError
from signs_dist.retraining.programs import run_here


def test_it_returns_what_the_work_returns() -> None:
    config = load_config(None, [])
    assert run_here(config, lambda process: {"ranks": process.strategy.world_size}) == {"ranks": 1}


def test_errors_reach_the_caller() -> None:
    def work(process: object) -> dict[str, object]:
        raise UserError("no such step")

    with pytest.raises(UserError, match="no such step"):
        run_here(load_config(None, []), work)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="cuda:7"):
        run_here(load_config(None, []), lambda process: {}, device="cuda:7")
