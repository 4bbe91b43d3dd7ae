"""How a module of launch is started as a program."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from launch.program import program, refuse_typed, typed


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


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h", "x"], ["/folder"]])
def test_a_part_of_another_program_is_not_typed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        refuse_typed(arguments, 2, "submit")
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err
        == "error: this program is a part of python launch/submit.py, which starts it. Type that.\n"
    )
    refuse_typed(["/folder", "/code"], 2, "submit")


@pytest.mark.parametrize("module", ["job", "task", "elastic_agent"])
def test_the_parts_say_whose_they_are(module: str) -> None:
    done = subprocess.run(
        [sys.executable, *program(module), "--help"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: this program is a part of ")
