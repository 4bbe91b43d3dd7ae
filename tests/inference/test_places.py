from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.inference import places
from signs_dist.inference.places import find_writable


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
