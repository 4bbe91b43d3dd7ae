"""A forked process as the interpreter of a program. What programs see of it: tests/launch/test_worker_parent.py."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from launch.forked_interpreter import can_run
from tests.processes import environment


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-m", "signs_dist.train"), True),
        (("-c", "pass", "x"), True),
        (("-m",), False),
        (("-c",), False),
        (("train.py", "-m"), False),
        (("-W", "error", "-m", "signs_dist.train"), False),
        ((), False),
    ],
)
def test_which_programs_it_can_run(arguments: Sequence[str], expected: bool) -> None:
    assert can_run(arguments) is expected


@pytest.mark.parametrize(("length", "is_shown"), [(20, True), (200, False)])
def test_a_command_line_is_shown_where_there_is_room(length: int, is_shown: bool) -> None:
    code = (
        "import sys\n"
        "from launch.forked_interpreter import set_command_line\n"
        "set_command_line(['own', 'x' * int(sys.argv[1])])\n"
        "print(open('/proc/self/cmdline').read().rstrip(chr(0)).replace(chr(0), ' ').startswith('own x'))"
    )
    command = [sys.executable, "-c", code, str(length)]
    if not is_shown:
        command = [sys.executable, "-c", code.replace("int(sys.argv[1])", "9999"), str(length)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"{is_shown}\n"
