"""Where the toolkit keeps what is of use to all runs of a user."""

from __future__ import annotations

import pytest

from signs_dist.environment.user_cache import home_cache_folder, user_cache_folder


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"XDG_CACHE_HOME": "/caches", "HOME": "/home/me"}, "/caches/signs_dist"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.cache/signs_dist"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/me"}, "/home/me/.cache/signs_dist"),
        ({"HOME": "/home/me"}, "/home/me/.cache/signs_dist"),
        ({"XDG_CACHE_HOME": "/caches"}, "/caches/signs_dist"),
    ],
)
def test_the_cache_folder_of_the_user(variables: dict[str, str], expected: str) -> None:
    assert str(home_cache_folder(variables)) == expected
    assert user_cache_folder(variables) == home_cache_folder(variables)


@pytest.mark.parametrize("variables", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_without_a_home_folder(variables: dict[str, str]) -> None:
    assert home_cache_folder(variables) is None
    assert user_cache_folder(variables).name.startswith("signs_dist-")
