"""Names of weights in a file and in a network: which prefix a file's names have more, and what is left over."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

MAX_PREFIX_PARTS = 4
"""How many parts of a name may be a prefix, as in `state.model.backbone.encoder.`"""

Value = TypeVar("Value")


def find_prefix(given: Collection[str], own: Collection[str]) -> str:
    """The prefix that the names in a file have before the names of the network, such as `backbone.`; "" without one.

    It is the prefix with which most names of the network are in the file, and at least half of them.

    Args:
        given: names in the file.
        own: names of the network's parameters and buffers.
    """
    present = set(given)

    def num_found(prefix: str) -> int:
        return sum(f"{prefix}{name}" in present for name in own)

    best, most = "", num_found("")
    for prefix in _prefixes(given):
        number = num_found(prefix)
        if number > most and 2 * number >= len(own):
            best, most = prefix, number
    return best


def without_prefix(state: Mapping[str, Value], own: Collection[str]) -> tuple[dict[str, Value], list[str]]:
    """The content of a file under the names of the network, and the names of what lies beside it in the file.

    A loss or a projector beside `backbone.` is such a part. What has no prefix and is a name of the network, such as
    `head.weight` beside `backbone.`, is taken as well. Without a prefix the file is returned as it is.
    """
    prefix = find_prefix(state, own)
    if not prefix:
        return dict(state), []
    inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    beside = {name: value for name, value in state.items() if not name.startswith(prefix)}
    taken = {name: value for name, value in beside.items() if name in own and name not in inner}
    return inner | taken, [name for name in beside if name not in taken]


def shortened(names: Iterable[str], most: int = 3) -> str:
    """Names with commas, at most `most` of them, and how many more there are."""
    names = list(names)
    return f"{', '.join(names[:most])}{f' and {len(names) - most} more' if len(names) > most else ''}"


def _prefixes(names: Iterable[str]) -> list[str]:
    """Every beginning of a name that ends in a dot, the shortest first."""
    found = {
        ".".join(parts[:number]) + "."
        for parts in (name.split(".") for name in names)
        for number in range(1, min(len(parts), MAX_PREFIX_PARTS + 1))
    }
    return sorted(found, key=lambda prefix: (prefix.count("."), prefix))
