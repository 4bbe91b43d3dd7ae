"""Reading Markdown pages: their links, headings, code blocks, and the commands in these."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

LANGUAGES = ("sh", "text", "python", "yaml")
"""What a fence may be opened with. text is what a command printed; its lines that begin with `$ ` are commands."""
NEEDS = ("cluster", "gpu", "network", "time")
"""The words of `<!-- needs: WORD -->` on the line before a block whose commands a test cannot run."""


@dataclasses.dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        line: of its first line in the page, counted from 1.
        language: the fence's info string; "" for an indented block.
        needs: the word of the mark before it; "" without a mark.
        lines: without the indentation of an indented block.
    """

    line: int
    language: str
    needs: str
    lines: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that a page shows, split as a shell does; what a comment says is gone."""

    line: int
    words: tuple[str, ...]
    needs: str
    is_shown: bool
    """Whether it is part of the text or of a capture, and not there to be copied."""


def blocks(text: str) -> Iterator[Block]:
    """The code blocks of a page, fenced and indented ones."""
    lines = text.splitlines()
    place = 0
    while place < len(lines):
        needs = _mark(lines, place)
        if lines[place].startswith("```"):
            language = lines[place][3:].strip()
            end = lines.index("```", place + 1)
            yield Block(place + 2, language, needs, tuple(lines[place + 1 : end]))
            place = end + 1
        elif lines[place].startswith("    ") and not lines[place - 1].strip():
            end = place
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            yield Block(place + 1, "", needs, tuple(line[4:] for line in lines[place:end]))
            place = end
        else:
            place += 1


def _mark(lines: list[str], place: int) -> str:
    before = next((line for line in reversed(lines[:place]) if line.strip()), "")
    found = re.fullmatch(r"<!-- needs: (.*) -->", before)
    return found[1] if found else ""


def commands(text: str) -> Iterator[Command]:
    """The commands in a page's code blocks, and those in backquotes that begin with a known program."""
    for block in blocks(text):
        for number, line in _joined(block):
            if block.language == "text" and not line.startswith("$ "):
                continue
            if block.language in ("sh", "text", ""):
                words = shlex.split(line.removeprefix("$ "), comments=True)
                if words and (block.language or words[0] in ("python", "make", "torchrun", "signs-dist", "pytest")):
                    yield Command(number, tuple(words), block.needs, block.language == "text")
    for number, line in enumerate(_without_blocks(text), start=1):
        for span in re.findall(r"`([^`]+)`", line):
            is_whole = re.match(r"(python (-m|launch|benchmarks)|make|signs-dist|pytest) ", span) and "…" not in span
            if is_whole:
                yield Command(number, tuple(shlex.split(span)), "", True)


def _joined(block: Block) -> Iterator[tuple[int, str]]:
    """(line number, text) of a block's lines; one that ends in a backslash goes on in the next."""
    held, begun = "", 0
    for number, line in enumerate(block.lines, start=block.line):
        begun = begun if held else number
        if line.endswith("\\"):
            held += line[:-1]
        else:
            yield begun, held + line
            held = ""


def _without_blocks(text: str) -> list[str]:
    lines = text.splitlines()
    for block in blocks(text):
        for number in range(block.line, block.line + len(block.lines)):
            lines[number - 1] = ""
    return lines


def links(text: str) -> Iterator[tuple[int, str]]:
    """(line number, target) of every link of a page."""
    for number, line in enumerate(_without_blocks(text), start=1):
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
            yield number, target


def named_files(text: str) -> Iterator[tuple[int, str, str]]:
    """(line number, path, name) of every span in backquotes that is a path, or `path: name of something in it`."""
    for number, line in enumerate(_without_blocks(text), start=1):
        for span in re.findall(r"`([^`]+)`", line):
            if found := re.fullmatch(r"(?!\.\./)([\w*./-]*(?:\.(?:py|md|sbatch|yaml)|/))(?:: ([\w.]+))?", span):
                yield number, found[1], found[2] or ""


def mapped_files(block: Block) -> list[str]:
    """The paths at the beginning of the lines of a map of folders; indented lines are in the folder above them."""
    folder, found = "", []
    for line in block.lines:
        names = re.split(r"  +", line.strip())[0].split()
        if line.startswith(" "):
            found += [folder + name for name in names]
        else:
            folder, found = names[0], [*found, *names]
    return found


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = [line.lstrip("#").strip() for line in _without_blocks(text) if re.match(r"#{1,6} ", line)]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def pages(repository: Path) -> list[Path]:
    """The pages that a test checks."""
    named = ("README.md", "CONTRIBUTING.md", "data/README.md", "slurm/README.md")
    return [repository / name for name in named] + sorted((repository / "docs").rglob("*.md"))
