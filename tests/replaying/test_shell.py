"""Python with a step in scope: a program from a pipe, and a terminal."""

from __future__ import annotations

import code
import importlib.util
import io
from typing import Any

import pytest

from signs_dist.replaying.shell import open_shell


@pytest.mark.parametrize(
    ("program", "exit_code"),
    [
        ("print(images * 2)", 0),
        ("import sys; print(images * 2); sys.exit(5)", 5),
        ("print(images * 2); raise SystemExit", 0),
        ("print(images * 2); 1 / 0", 1),
    ],
)
def test_a_program_from_a_pipe_is_run(program: str, exit_code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert open_shell({"images": 21}, "hello", io.StringIO(program)) == exit_code
    told = capsys.readouterr()
    assert told.out == "42\n"
    assert ("ZeroDivisionError" in told.err) == ("1 / 0" in program)


def test_a_terminal_gets_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, given = io.StringIO(), dict[str, Any]()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(code, "interact", lambda banner, local, exitmsg: given.update(local, banner=banner))
    assert open_shell({"images": 21}, "hello", terminal) == 0
    assert (given["images"], given["banner"]) == (21, "hello")
