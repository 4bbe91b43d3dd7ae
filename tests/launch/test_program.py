"""How a module of launch is started as a program."""

from __future__ import annotations

import importlib.util

import pytest

from launch.program import program


@pytest.mark.parametrize("module", ["job", "requeue", "task"])
def test_the_programs_that_scripts_start_are_there(module: str) -> None:
    flag, name = program(module)
    assert (flag, name) == ("-m", f"launch.{module}")
    assert importlib.util.find_spec(name) is not None
