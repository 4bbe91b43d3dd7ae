"""What a run trains: the config, the contents of the data and the code, as one SHA-256 beside each state.

The settings that count are those that change the weights, or the numbers of validations; the others may differ between
equal runs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

PARTS = ("config", "data", "code")


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a run trains.

    Attributes:
        config: from `config_sha256`.
        data: from `data_sha256`.
        code: from `code_sha256`.
    """

    config: str
    data: str
    code: str

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) over the three."""
        return _sha256([self.config, self.data, self.code])

    def as_dict(self) -> dict[str, str]:
        """As manifest.json has it under `subject`: the three, and `sha256`."""
        return {**dataclasses.asdict(self), "sha256": self.sha256}

    @classmethod
    def from_dict(cls, values: Any) -> Subject | None:
        """What `as_dict` returned; None for anything else."""
        if not isinstance(values, Mapping) or not all(isinstance(values.get(name), str) for name in PARTS):
            return None
        found = cls(**{name: values[name] for name in PARTS})
        return found if found.sha256 == values.get("sha256") else None

    def differences(self, other: Subject) -> list[str]:
        """The names of the parts that differ."""
        return [name for name in PARTS if getattr(self, name) != getattr(other, name)]


def config_sha256(settings: Mapping[str, Any]) -> str:
    """SHA-256 (hex) over settings that change weights or numbers, by their dotted names, such as `optim.lr`.

    Args:
        settings: plain values. Those that have their default are left out by the caller, so that a setting that a later
            release adds changes nothing.
    """
    return _sha256(dict(settings))


def data_sha256(contents: Mapping[str, str]) -> str:
    """SHA-256 (hex) over a SHA-256 of each split: over names, labels, and pixels or contents of its photos."""
    return _sha256(dict(contents))


def photos_sha256(classes: Iterable[str], photos: Iterable[tuple[str, int, str]]) -> str:
    """SHA-256 (hex) of a split whose photos are read from files.

    Args:
        classes: their names, in the order of labels.
        photos: (name, label, SHA-256 of its bytes) of each, in their order.
    """
    hasher = hashlib.sha256(json.dumps(list(classes)).encode())
    for photo in photos:
        hasher.update(b"\n" + json.dumps(photo).encode())
    return hasher.hexdigest()


def code_sha256(files: Mapping[str, str]) -> str:
    """SHA-256 (hex) over the SHA-256 of each source file, by the names of modules: folders do not count."""
    return _sha256(dict(files))


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
