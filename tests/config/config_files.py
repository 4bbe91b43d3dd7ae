"""Configs that tests write, and what a user is told about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.config.reading import load_config
from signs_dist.config.settings import Config
from signs_dist.errors import UserError


def message_of(tmp_path: Path, content: str | bytes | None, *overrides: str) -> str:
    """What a user is told about a config, without the folder's name."""
    path = None
    if content is not None:
        path = tmp_path / "c.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    return str(caught.value).replace(f"{tmp_path}/", "")


def read(tmp_path: Path, content: str, *overrides: str) -> Config:
    path = tmp_path / "c.yaml"
    path.write_text(content, encoding="utf-8")
    return load_config(path, overrides)
