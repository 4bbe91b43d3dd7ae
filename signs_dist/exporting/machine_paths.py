"""Files and folders of the machine of the training, in what an export says about itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def is_machine_path(value: object) -> bool:
    """Whether a setting is the absolute path of a file or folder."""
    return isinstance(value, str) and value.startswith(("/", "~/"))


def names_of_paths(value: Any) -> Any:
    """Settings with the last name of each absolute path in its place; all else as it is."""
    if isinstance(value, dict):
        return {key: names_of_paths(each) for key, each in value.items()}
    if isinstance(value, list):
        return [names_of_paths(each) for each in value]
    return Path(value).name if is_machine_path(value) else value


def paths_in(value: Any) -> Iterator[str]:
    """The absolute paths in settings."""
    if isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from paths_in(each)
    elif is_machine_path(value):
        yield value
