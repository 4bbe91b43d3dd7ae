from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.inference import places
from signs_dist.inference.places import find_writable, user_cache_folder


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
    assert str(user_cache_folder(variables)) == expected.format(home=Path.home())


def test_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(places.Path, "home", fail)
    assert user_cache_folder({}).name.startswith("signs_dist-")


def test_a_folder_of_the_run(tmp_path: Path) -> None:
    run = str(tmp_path)
    assert find_writable("data/cache", run) is None  # neither it nor data/ is there
    assert find_writable("data/cache", None) is None
    (tmp_path / "data").mkdir()
    assert find_writable("data/cache", run) == tmp_path / "data/cache"
    assert find_writable(f"{run}/data/cache", None) == tmp_path / "data/cache"
    (tmp_path / "data/cache").write_text("a file")
    assert find_writable("data/cache", run) is None


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(places.os, "access", lambda *_: False)
    assert find_writable("cache", str(tmp_path)) is None
