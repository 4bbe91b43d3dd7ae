"""The console script finds every command, and its help imports nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from signs_dist import __version__
from signs_dist.cli import COMMANDS, IN_BATCH_SCRIPTS, LAUNCHERS, dispatch, find_module
from signs_dist.environment.installation import spell
from signs_dist.errors import UserError
from tests.processes import REPOSITORY

HELP = """
import sys
from signs_dist.console.command import run_command
from signs_dist.cli import dispatch
try:
    code = run_command(dispatch, sys.argv[1:])
except SystemExit as stop:
    code = stop.code
heavy = [name for name in ("torch", "torchvision", "numpy", "pydantic", "PIL") if name in sys.modules]
print("imported:", *heavy, file=sys.stderr)
sys.exit(code)
"""


def run(*arguments: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-c", HELP, *arguments], capture_output=True, text=True, encoding=encoding, env=environment
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command: str) -> None:
    done = run(command, "--help")
    assert (done.returncode, done.stderr) == (0, "imported:\n")
    assert done.stdout.startswith(f"usage: python -m {COMMANDS[command][0]} [-h]")


@pytest.mark.parametrize("command", LAUNCHERS | IN_BATCH_SCRIPTS)
def test_help_of_a_launcher_is_its_own(command: str, tmp_path: Path) -> None:
    """From a folder that is not the checkout, which the console script would not have on Python's path."""
    done = subprocess.run(
        [sys.executable, "-c", HELP, command, "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(checkout_by_itself(tmp_path))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"usage: {spell(command)} ")
    assert done.stderr == "imported:\n"


def checkout_by_itself(folder: Path) -> Path:
    """A folder from which Python imports signs_dist of the checkout, and nothing that lies beside it."""
    (folder / "path").mkdir()
    (folder / "path" / "signs_dist").symlink_to(REPOSITORY / "signs_dist")
    return folder / "path"


def test_what_only_batch_scripts_call_is_not_listed() -> None:
    for name in IN_BATCH_SCRIPTS:
        assert find_module(name) == IN_BATCH_SCRIPTS[name][0]
        assert f"  {name} " not in run("--help").stdout


def test_the_list_of_commands() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "imported:\n")
    assert all(f"  {name} " in done.stdout for name in COMMANDS | LAUNCHERS)
    assert run("--help", encoding="ascii").returncode == 0


def test_without_a_command_the_list_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch([]) == 0
    assert "signs-dist COMMAND --help" in capsys.readouterr().out
    assert dispatch(["--version"]) == 0
    assert capsys.readouterr().out == f"signs_dist {__version__}\n"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("trian", "Did you mean train? Commands: train, evaluate,"),
        ("xyz", "no such command. Commands: "),
        ("sumbit", "Did you mean submit?"),
    ],
)
def test_a_wrong_command_names_the_nearest(word: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        dispatch([word])
    assert told in str(caught.value)


def test_the_console_script_exits_with_2() -> None:
    done = subprocess.run([sys.executable, "-m", "signs_dist", "trian"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: signs-dist trian: no such command. Did you mean train?")


def test_the_package_can_be_run() -> None:
    done = subprocess.run([sys.executable, "-m", "signs_dist", "--version"], capture_output=True, text=True)
    assert done.stdout == f"signs_dist {__version__}\n"


def test_the_documents_list_all_commands() -> None:
    text = (REPOSITORY / "docs/launching.md").read_text(encoding="utf-8")
    listed = text.partition("## Other commands")[2].partition("\n## ")[0]
    assert [
        name for name in COMMANDS | LAUNCHERS if f"`{name}`" not in listed and f"signs-dist {name} " not in listed
    ] == []
