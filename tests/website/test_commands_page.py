"""The page of commands: complete, as the parsers are now, and the same on any terminal."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from signs_dist import cli
from website.commands_page import commands_page, in_markdown, parsers_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"


@pytest.mark.parametrize("columns", ["40", "200"])
def test_the_page_is_up_to_date(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    command = "python -m website.commands_page > docs/commands.md"
    assert PAGE.read_text(encoding="utf-8") == commands_page(), f"type: {command}"


@pytest.mark.parametrize("name", [*cli.COMMANDS, *cli.LAUNCHERS, *cli.IN_BATCH_SCRIPTS])
def test_the_page_has_every_flag_of_a_command(name: str) -> None:
    page = commands_page()
    level = "###" if name in cli.IN_BATCH_SCRIPTS else "##"
    section = page.partition(f"\n{level} {name}\n")[2].partition(f"\n{level} ")[0]
    assert section
    for parser in parsers_of(name):
        for below in (parser, *below_of(parser)):
            shown = [action for action in below._actions if action.help != argparse.SUPPRESS]
            flags = {action.option_strings[-1] for action in shown if action.option_strings} - {"--help"}
            assert [flag for flag in flags if f"| `{flag}" not in section] == []


def below_of(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [below for choices in found for below in choices.values()]


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("with --agent torchrun", "with `--agent` torchrun"),
        ("such as optim.lr=0.05", "such as `optim.lr=0.05`"),
        ("default: runs/<config>", "default: runs/&lt;config>"),
        ("two\n   lines of *", "two lines of \\*"),
    ],
)
def test_help_as_markdown(text: str, markdown: str) -> None:
    assert in_markdown(text) == markdown
