"""What a side of a comparison is: which run or config, on how many processes, with whose code."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.errors import UserError

PROCESSES = "processes"
"""The word of `--left` and `--right` that is no setting."""


@dataclasses.dataclass(frozen=True)
class SideOrder:
    """What the processes of a side do.

    Attributes:
        name: `A` or `B`.
        address: host and port of the command.
        token: lets them report there.
        run: the run folder; None: `config` is trained from its beginning.
        config: a YAML file; None: the default settings.
        overrides: settings that win.
        data: where the images of a run lie now; None: where they lay.
        device: auto, cpu or cuda.
        equal: the run begins at its newest state with at most so many steps.
        until: it ends after so many steps since the start of the run.
    """

    name: str
    address: tuple[str, int]
    token: str
    run: str | None
    config: str | None
    overrides: list[str]
    data: str | None
    device: str
    equal: int
    until: int

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> SideOrder:
        """From `dataclasses.asdict`, through JSON."""
        host, port = fields["address"]
        return cls(**{**fields, "address": (host, port)})


@dataclasses.dataclass(frozen=True)
class Subject:
    """A side, as the user names it.

    Attributes:
        num_processes: on which it trains here.
        run: the run folder; None: a config.
        config: a YAML file; None: the default settings.
        overrides: settings that win.
        code: a folder that Python searches first; None: nothing else than this process does.
        data: where the images of a run lie now; None: where they lay.
    """

    num_processes: int
    run: Path | None = None
    config: Path | None = None
    overrides: tuple[str, ...] = ()
    code: Path | None = None
    data: str | None = None


def read_words(text: str, flag: str) -> tuple[int | None, list[str]]:
    """(number of processes or None, settings) in a text such as `processes=3 optim.lr=0.1`, quoted as in a shell.

    Raises:
        UserError: a word is no setting, or the number is not a whole number from 1.
    """
    try:
        words = _joined(shlex.split(text))
    except ValueError as error:
        raise UserError(f"{flag} {text!r}: {error}. Type {flag} 'processes=2 optim.lr=0.1'") from None
    num_processes: int | None = None
    settings = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UserError(f"{flag}: {word!r} is no setting. Type {flag} 'processes=2 optim.lr=0.1'")
        if name != PROCESSES:
            settings.append(word)
        elif value.isdigit() and int(value) > 0:
            num_processes = int(value)
        else:
            raise UserError(f"{flag}: {word}: give a whole number from 1, such as {PROCESSES}=2.")
    return num_processes, settings


def _joined(words: Sequence[str]) -> list[str]:
    """The words, with those between brackets as one: `model.args={a: 1, b: 2}` is one setting."""
    joined: list[str] = []
    depth = 0
    for word in words:
        if depth > 0:
            joined[-1] += f" {word}"
        else:
            joined.append(word)
        depth += sum(word.count(each) for each in "{[") - sum(word.count(each) for each in "}]")
    return joined


def search_path(code: Path, path: Sequence[str]) -> list[str]:
    """Where the processes of a side with code of its own look for modules.

    Raises:
        UserError: there is no such folder, or it holds a toolkit that has no command diverge.
    """
    if not code.is_dir():
        raise UserError(f"{code}: no such folder. Give the folder that holds the modules of this side.")
    toolkit = code / "signs_dist"
    if toolkit.is_dir() and not (toolkit / "diverging").is_dir():
        raise UserError(
            f"{code} holds a release of signs_dist without the command diverge. Give a folder with your own modules "
            f"alone, and both sides train with this release."
        )
    return [str(code.resolve()), *path]
