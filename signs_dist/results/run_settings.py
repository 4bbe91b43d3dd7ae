"""The settings of a run, from its config.yaml, read fast: hundreds of runs are listed in a second.

`config/reading.py` checks a config that a person wrote, and names the line of each fault. Here the file was written by
a run. So libyaml parses it, by the same rules for unquoted words.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from signs_dist.config.file_text import read_config_text
from signs_dist.config.yaml_text import PLAIN_SCALARS

_FastLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_FastLoader):  # type: ignore[misc]  # its base is chosen above
    """As `PlainLoader`, by libyaml where PyYAML has it."""

    yaml_implicit_resolvers = PLAIN_SCALARS


def read_raw_settings(path: Path) -> dict[str, Any]:
    """The sections of a config.yaml as nested mappings; empty if the file cannot be read."""
    try:
        values = yaml.load(read_config_text(path), _Loader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def read_settings(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key → value for every setting, from the sections of a config.yaml; empty without any section.

    A setting that the file lacks, because it is newer than the run, has its default value.
    """
    if not raw:
        return {}
    from signs_dist.config.section import flatten
    from signs_dist.config.settings import Config

    return {key: _look_up(raw, key, default) for key, default in flatten(Config())}


def _look_up(raw: Mapping[str, Any], key: str, default: Any) -> Any:
    value: Any = raw
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return default
        value = value[name]
    if not isinstance(default, tuple) or not isinstance(value, list):
        return value
    return tuple(tuple(each) if isinstance(each, list) else each for each in value)  # train.progressive_sizes has pairs
