"""Names of classes that are probably one class in two spellings."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def spelled_alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of names that differ only in case, accents, hyphens, underscores, blanks or a plural's s, each sorted."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        plain = "".join(_without_accents(name).split()).replace("_", "").replace("-", "")
        groups.setdefault(plain.removesuffix("s") or name, []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _without_accents(name: str) -> str:
    """Latin letters without accents, in small letters. In other scripts such marks make other letters."""
    kept: list[str] = []
    for character in unicodedata.normalize("NFKD", name):
        is_mark = unicodedata.combining(character) != 0
        if not (is_mark and kept and unicodedata.name(kept[-1], "").startswith("LATIN")):
            kept.append(character)
    return "".join(kept).casefold()
