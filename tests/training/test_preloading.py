"""Which modules a training needs. That importing them starts nothing: tests/launch/test_preloading.py."""

from __future__ import annotations

import importlib.util

import pytest

from signs_dist.config.settings import Config
from signs_dist.training.preloading import MODULES, libraries_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("signs_net", ()),
        ("torchvision:resnet18", ("torchvision",)),
        ("timm:resnet18", ("timm",)),
        ("own.module:make", ()),
    ],
)
def test_the_library_of_a_network(name: str, expected: tuple[str, ...]) -> None:
    config = Config()
    config = config.model_copy(update={"model": config.model.model_copy(update={"name": name})})
    assert libraries_of(config) == expected
    assert libraries_of(None) == ()


def test_the_modules_are_there() -> None:
    assert [name for name in MODULES if importlib.util.find_spec(name) is None] == []
