"""The class of each image of a tar: its number in .cls, a value in .json, or a line of .txt, as WebDataset has them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tarfile import TarInfo

from signs_dist.data.names import is_printable, listed, printable
from signs_dist.data.sources.columns import USUAL_NAMES
from signs_dist.errors import UserError

Label = int | str
"""The number of a class, or its name."""
LABEL_SUFFIXES = (".cls", ".json", ".txt")
"""Members that may tell the class of the image of their key. The first that any image has is read, and all need it."""
MAX_LABEL_BYTES = 64
"""A .cls member holds a short number."""
MAX_NAME_BYTES = 256
"""A .txt member with more is no name of a class, but a text about the image."""
MAX_JSON_BYTES = 2**20


def choose_suffix(
    shard: Path, images: Mapping[str, TarInfo], members: Mapping[str, Mapping[str, TarInfo]], label_key: str | None
) -> str:
    """Which members tell the classes.

    Args:
        shard: for messages.
        images: key → image.
        members: suffix → key → member, for LABEL_SUFFIXES.
        label_key: `data.columns.label`, a key within .json; None: the first of LABEL_SUFFIXES that any image has.

    Raises:
        UserError: some images have none.
    """
    present = [suffix for suffix in LABEL_SUFFIXES if any(key in members[suffix] for key in images)]
    suffix = ".json" if label_key is not None else next(iter(present), ".cls")
    without = [key for key in images if key not in members[suffix]]
    if not without:
        return suffix
    hint = "" if present else ", whose text is the number of the class; .json or .txt may take its place"
    asked = f" data.columns.label={label_key} is a key of .json members." if label_key is not None else ""
    raise UserError(
        f"{shard}: {len(without):,} images have no {suffix}, such as {listed(without, 3)}. A sample is KEY.jpg and "
        f"KEY{suffix}{hint}.{asked}"
    )


def read_labels(
    shard: Path, suffix: str, members: Mapping[str, TarInfo], descriptor: int, label_key: str | None
) -> dict[str, Label]:
    """Key → class of each image.

    Args:
        shard: for messages.
        suffix: from `choose_suffix`.
        members: key → the member that tells its class.
        descriptor: of the open shard.
        label_key: as there; None for .json: label, class, target or a like name.

    Raises:
        UserError: a member does not tell a class.
    """
    readers: dict[str, Callable[[TarInfo, bytes], Label]] = {
        ".cls": lambda member, content: _of_number(shard, member, content),
        ".json": lambda member, content: _of_json(shard, member, content, label_key),
        ".txt": lambda member, content: _of_text(shard, member, content),
    }
    most = {".cls": MAX_LABEL_BYTES, ".json": MAX_JSON_BYTES, ".txt": MAX_NAME_BYTES}[suffix]
    return {
        key: readers[suffix](member, os.pread(descriptor, min(member.size, most + 1), member.offset_data))
        for key, member in members.items()
    }


def _of_number(shard: Path, member: TarInfo, content: bytes) -> int:
    text = content.decode("utf-8", "replace").strip()
    if not (_is_number(text) and member.size <= MAX_LABEL_BYTES):
        raise UserError(
            f"{shard}: {printable(member.name)} holds {text[:40]!r}, and must hold the number of a class, from 0. "
            f"Names of classes belong into classes.txt beside the shards, a line each."
        )
    return int(text)


def _of_text(shard: Path, member: TarInfo, content: bytes) -> Label:
    text = content.decode("utf-8", "replace").strip()
    if not text or len(content) > MAX_NAME_BYTES or not is_printable(text):
        raise UserError(
            f"{shard}: {printable(member.name)} holds {text[:40]!r}, and must hold the name or the number of a class "
            f"in one line, because the images have neither .cls nor .json."
        )
    return int(text) if _is_number(text) else text


def _of_json(shard: Path, member: TarInfo, content: bytes, label_key: str | None) -> Label:
    name = printable(member.name)
    try:
        if len(content) > MAX_JSON_BYTES:
            raise ValueError(f"it has {member.size:,} bytes")
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shard}: {name} cannot be read as JSON: {error}. Write it again.") from error
    if not isinstance(value, dict):
        raise UserError(f'{shard}: {name} holds no mapping such as {{"label": 3}}.')
    key = label_key or next((usual for usual in USUAL_NAMES["label"] if usual in value), None)
    if key is None or key not in value:
        given = f"no {key}" if key is not None else "no label, class, target or a like key"
        raise UserError(
            f"{shard}: {name} has {given}; it has {listed(list(map(str, value)), 12) or 'no keys'}. Name the key with "
            f"the class: data.columns.label=KEY"
        )
    label = value[key]
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < 10**9:
        return label
    if isinstance(label, str) and label.strip() and is_printable(label):
        return int(label) if _is_number(label) else label.strip()
    raise UserError(
        f"{shard}: {name} has {printable(key)}: {json.dumps(label)[:40]}, which is neither the number nor the name "
        f"of a class. Name another key with data.columns.label=KEY"
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
