"""The page docs/commands.md, made from the parsers of the commands.

python -m website.commands_page > docs/commands.md
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator

from signs_dist import cli

HEAD = """\
# Commands

<!-- Made from the commands' own parsers by: python -m website.commands_page > docs/commands.md -->

Every command with all its flags, as `--help` shows them. In a checkout, each has a short form, such as
`signs-dist train`; from an [installed wheel](launching.md#from-an-installed-wheel) the launchers have no other form.
Activate the environment first: `. .venv/bin/activate`.

`section.key=value` stands for any [setting](settings.md), such as `optim.lr=0.05`. All commands share their
[exit codes](exit-codes.md).
"""
IN_BATCH_SCRIPTS = """\
## In batch scripts

No person types these: the [batch templates](../slurm/README.md) do.
"""


def commands_page() -> str:
    """The whole page as Markdown: a table of all commands, then a section for each."""
    shown = cli.COMMANDS | cli.LAUNCHERS
    rows = [f"| [`{name}`](#{name}) | {about} |" for name, (_, about) in shown.items()]
    index = "\n".join(["| command | what it does |", "|---|---|", *rows]) + "\n"
    sections = ["\n".join(_section(name, parsers_of(name))) for name in shown]
    internal = ["\n".join(_section(name, parsers_of(name), level=3)) for name in cli.IN_BATCH_SCRIPTS]
    return "\n".join([HEAD, index, *sections, IN_BATCH_SCRIPTS, *internal])


def parsers_of(name: str) -> list[argparse.ArgumentParser]:
    """The parsers of a command: its own, and that of its commands after a submission."""
    parsers = [importlib.import_module(cli.find_module(name)).build_parser()]
    if name == "submit":
        parsers.append(importlib.import_module("launch.look_after").build_parser())
    return parsers


def _section(name: str, parsers: list[argparse.ArgumentParser], level: int = 2) -> Iterator[str]:
    own = parsers[0]
    yield f"{'#' * level} {name}"
    yield from ("", in_markdown(own.description or ""), "", "```text", f"{own.prog} {_usage(own)}".rstrip())
    if name not in cli.IN_BATCH_SCRIPTS:
        yield f"signs-dist {name} {_usage(own)}".rstrip()
    yield from ("```", "", *_table(own))
    for part in re.split(r"(?=Exit codes)", own.epilog or ""):
        if part.strip():
            yield from (in_markdown(part), "")
    for parser in parsers:
        for choice, below, about in _subcommands(parser):
            yield from (
                f"{'#' * (level + 1)} {name} {choice}",
                "",
                f"{in_markdown(about[:1].upper() + about[1:])}.",
                "",
            )
            yield from ("```text", f"{below.prog} {_usage(below)}".rstrip(), "```", "", *_table(below))


def _subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """(name, parser, what it does) of each."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            abouts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            yield from ((name, below, abouts[name]) for name, below in action.choices.items())


def _shown(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments that --help shows, without --help itself and the list of subcommands."""
    hidden = (argparse._HelpAction, argparse._SubParsersAction)
    return [action for action in parser._actions if action.help != argparse.SUPPRESS and not isinstance(action, hidden)]


def _usage(parser: argparse.ArgumentParser) -> str:
    """What follows the command: required flags, `[flags]` for the others, its subcommands, what it works on."""
    arguments = _shown(parser)
    parts = [_typed(action) for action in arguments if action.option_strings and action.required]
    parts += ["[flags]"] * any(action.option_strings and not action.required for action in arguments)
    parts += [f"{{{','.join(name for name, _, _ in _subcommands(parser))}}} …"] * any(_subcommands(parser))
    for action in arguments:
        if not action.option_strings:
            may_be_left_out = action.nargs in ("?", "*") and not _typed(action).startswith("-- ")
            parts.append(f"[{_typed(action)}]" if may_be_left_out else _typed(action))
    return " ".join(parts)


def _typed(action: argparse.Action) -> str:
    """An argument as it is typed: `--nproc N`, `RUN_DIR …`."""
    value = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar or ())
    if not value and action.choices is not None:
        value = f"{{{','.join(map(str, action.choices))}}}"
    if not value and action.nargs != 0:
        value = action.dest.upper() if action.option_strings else action.dest
    value += " …" * (action.nargs in ("+", "*"))
    return " ".join([*action.option_strings[-1:], *([value] if value else [])])


def _table(parser: argparse.ArgumentParser) -> Iterator[str]:
    arguments = _shown(parser)
    if arguments:
        yield from ("| argument | what it does |", "|---|---|")
    for action in arguments:
        text = (action.help or "") % {**vars(action), "prog": parser.prog}
        typed = _typed(action).replace("|", "\\|")
        needed = " (required)" if action.required and action.option_strings else ""
        about = in_markdown(text).replace("|", "\\|")
        yield f"| `{typed}` | {about}{needed} |"
    if arguments:
        yield ""


def in_markdown(text: str) -> str:
    """Help as Markdown: commands, flags, settings and names of files in backquotes, on one line."""
    words = " ".join(text.split()).replace("`", "").replace("<", "&lt;").replace("*", "\\*")
    return re.sub(r"(?<![\w`/-])(--[a-z][\w-]*|[a-z_]+(?:\.[a-z_]+)+=[\w.,:-]*\w|signs_dist\.\w+)", r"`\1`", words)


if __name__ == "__main__":
    print(commands_page(), end="")
