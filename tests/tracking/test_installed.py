from __future__ import annotations

import importlib.util
from typing import get_args

import pytest

from signs_dist.config.reading import load_config
from signs_dist.config.settings import Dashboard
from signs_dist.errors import UserError
from signs_dist.tracking.installed import MODULES, require_installed


def test_each_dashboard_of_the_setting_has_a_module() -> None:
    assert tuple(MODULES) == get_args(Dashboard)
    assert all(importlib.util.find_spec(module) for module in MODULES.values())


def test_a_dashboard_that_is_not_installed_is_refused_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("wandb", "mlflow") else object())
    require_installed(["tensorboard"])
    with pytest.raises(
        UserError, match=r"^log.to=wandb,mlflow: not installed. Type: pip install 'signs_dist\[wandb,mlf"
    ):
        require_installed(["wandb", "tensorboard", "mlflow"])


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("log.to=wandb", ("wandb",)),
        ("log.to=[wandb, mlflow]", ("wandb", "mlflow")),
        ("log.to=[mlflow, mlflow]", ("mlflow",)),
        ("log.to=[]", ()),
    ],
)
def test_the_setting_takes_one_name_or_a_list(typed: str, names: tuple[str, ...]) -> None:
    assert load_config(None, [typed]).log.to == names


def test_an_unknown_dashboard_is_refused() -> None:
    with pytest.raises(UserError, match="tensorboard, wandb, mlflow"):
        load_config(None, ["log.to=tensorbord"])
