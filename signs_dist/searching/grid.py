"""The words of a grid, `NAME=VALUE,VALUE…`, and all their combinations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import yaml

from signs_dist.config.yaml_text import PlainLoader, format_value
from signs_dist.errors import UserError

OTHER_NAMES = {"seeds": "seed"}
MOST_TRIALS = 1000


def parse_choices(entry: str, flag: str = "") -> tuple[str, list[Any]]:
    """The setting and the values of `NAME=VALUE,VALUE…`; the values are in YAML.

    Args:
        entry: the word.
        flag: what messages begin with, such as `--array `.

    Raises:
        UserError: the word is no NAME=VALUE, or a value is given twice.
    """
    name, found, text = entry.partition("=")
    name = OTHER_NAMES.get(name, name)
    try:
        values = yaml.load(f"[{text}]", PlainLoader)
    except yaml.YAMLError:
        values = []
    if not found or not name or not values:
        raise UserError(f"{flag}{entry!r}: type NAME=VALUE,VALUE, such as seeds=0,1,2 or optim.lr=0.1,0.03")
    texts = [format_value(value) for value in values]
    if twice := next((text for number, text in enumerate(texts) if text in texts[:number]), None):
        raise UserError(f"{flag}{entry!r}: {twice} is given twice. Each value is one run: type it once.")
    return name, values


def parse_grid(entries: Sequence[str]) -> list[tuple[str, ...]]:
    """The settings of every trial of `--array`: all combinations, the last name varying fastest.

    Raises:
        UserError: an entry that is no NAME=VALUE, a name or value that is given twice, or too many trials.
    """
    choices: dict[str, list[Any]] = {}
    for entry in entries:
        name, values = parse_choices(entry, "--array ")
        if name in choices:
            raise UserError(f"--array: {name} is given twice. Type {name}= once, with all values.")
        choices[name] = values
    words = [[f"{name}={format_value(value)}" for value in values] for name, values in choices.items()]
    num_trials = math.prod(map(len, words))
    if num_trials > MOST_TRIALS:
        raise UserError(f"--array: {num_trials:,} trials; at most {MOST_TRIALS:,} in one array.")
    return list(itertools.product(*words))
