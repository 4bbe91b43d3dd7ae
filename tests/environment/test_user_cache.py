"""Where the toolkit keeps what is of use to all runs of a user."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.environment import user_cache
from signs_dist.environment.user_cache import home_cache_folder, user_cache_folder


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"XDG_CACHE_HOME": "/caches"}, "/caches/signs_dist"),
        ({"XDG_CACHE_HOME": "relative"}, "{home}/.cache/signs_dist"),
        ({"XDG_CACHE_HOME": ""}, "{home}/.cache/signs_dist"),
        ({}, "{home}/.cache/signs_dist"),
    ],
)
def test_the_cache_folder_of_the_user(variables: dict[str, str], expected: str) -> None:
    assert str(home_cache_folder(variables)) == expected.format(home=Path.home())
    assert user_cache_folder(variables) == home_cache_folder(variables)


def test_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(user_cache.Path, "home", fail)
    assert home_cache_folder({}) is None
    assert user_cache_folder({}).name.startswith("signs_dist-")
