"""Modules of a user's own, written for a test."""

from __future__ import annotations

import itertools
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

_numbers = itertools.count()


def module_writer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A function that writes the source of a module into a folder, and gives the name under which it is imported."""
    monkeypatch.syspath_prepend(str(folder))

    def write(source: str) -> str:
        name = f"users_own_{next(_numbers)}"
        (folder / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write
