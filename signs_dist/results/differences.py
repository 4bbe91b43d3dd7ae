"""The settings in which runs differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NOT_COMPARED = ("data.cache", "processes.", "checkpoint.", "check.", "log.")
"""Settings that say where files are, how long processes wait, and what is saved and shown, and not what is trained. A
dot at the end means a section."""


def differing_settings(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Dotted key → the value in each run, for each setting in which runs differ, without those of `NOT_COMPARED`.

    Args:
        settings: of each run, as `RunSummary.settings`: every setting by its dotted key. A run whose settings could not
            be read has an empty mapping; it makes no setting differ.

    Returns:
        The keys in the order of the settings. A value that is a mapping, such as `model.args`, has a key for each of
        its entries: `model.args.channels`. A run without the setting has None.
    """
    runs = [dict(_entries("", each)) for each in settings]
    known = [run for run, given in zip(runs, settings, strict=True) if given]
    keys = dict.fromkeys(key for run in known for key in run)
    return {
        key: [run.get(key) for run in runs]
        for key in keys
        if not _is_left_out(key) and len({_comparable(run.get(key)) for run in known}) > 1
    }


def _entries(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _entries(f"{prefix}{name}.", value)
        elif not isinstance(value, Mapping):
            yield f"{prefix}{name}", value


def _is_left_out(key: str) -> bool:
    return any(key == name or (name.endswith(".") and key.startswith(name)) for name in NOT_COMPARED)


def _comparable(value: Any) -> str:
    """A text that is the same for equal values: 1 equals 1.0 and (1, 2) equals [1, 2], but true does not equal 1."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_comparable, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{key}: {_comparable(entry)}' for key, entry in value.items()))}}}"
    is_whole = isinstance(value, float) and value.is_integer()
    return repr(int(value) if is_whole else value)
