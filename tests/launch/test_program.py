"""How a module of launch is started as a program."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from launch.program import program, typed


@pytest.mark.parametrize("module", ["job", "requeue", "task"])
def test_the_programs_that_scripts_start_are_there(module: str) -> None:
    flag, name = program(module)
    assert (flag, name) == ("-m", f"launch.{module}")
    assert importlib.util.find_spec(name) is not None


@pytest.mark.parametrize(
    ("path", "text"),
    [("runs/a", "runs/a"), ("my run", "'my run'"), ("-x", "./-x"), ("-my run", "'./-my run'"), (Path("/a"), "/a")],
)
def test_a_path_in_a_command(path: Path | str, text: str) -> None:
    assert typed(path) == text
