"""Where each image lies in a tar: read once from its headers, and then kept in a small file."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from signs_dist.data.images import IMAGE_SUFFIXES
from signs_dist.data.names import printable
from signs_dist.data.shards.labels import LABEL_SUFFIXES, Label, choose_suffix, read_labels
from signs_dist.errors import UserError
from signs_dist.files import written_aside

INDEX_VERSION = 1
VERSION_WITH_NAMES = 2
"""Of the index of a shard whose classes are not told by .cls, which earlier releases refuse."""
INDEX_SUFFIX = ".index.json"
"""Appended to the name of a shard, it is the name of its index."""
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
"""First bytes of packed files → how they are packed."""
_BLOCK_BYTES = 512


@dataclasses.dataclass(frozen=True)
class TarImage:
    """An image in a tar: the name of its member, where its bytes begin, how many there are, and its class: the number
    of it, or its name."""

    name: str
    offset: int
    num_bytes: int
    label: Label


@dataclasses.dataclass(frozen=True)
class TarIndex:
    """The images of a shard, in the order of its members.

    Attributes:
        num_bytes: size of the tar.
        mtime_ns: when it was written; with its size it tells whether the index is still that of the tar.
        images: its images.
        others: suffix → number of members that are neither an image nor tell its class.
        labels: the suffix of the members that tell the classes.
        label_key: the key within .json that tells them, where it was asked for.
    """

    num_bytes: int
    mtime_ns: int
    images: tuple[TarImage, ...]
    others: dict[str, int]
    labels: str = ".cls"
    label_key: str | None = None


def split_name(name: str) -> tuple[str, str]:
    """A member's name as key and suffix: `cat/1.seg.png` is (`cat/1`, `.seg.png`), as in WebDataset.

    The suffix begins at the first point of the last part of the name; without one it is empty.
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, suffix = base.partition(".")
    return f"{folder}{slash}{stem}", f"{dot}{suffix}".lower()


def is_index_of(index: TarIndex | None, shard: Path, label_key: str | None = None) -> bool:
    """Whether an index belongs to the shard as it is now, with the classes of `label_key`."""
    if index is None or index.label_key != label_key:
        return False
    status = shard.stat()
    return (index.num_bytes, index.mtime_ns) == (status.st_size, status.st_mtime_ns)


def scan(shard: Path, label_key: str | None = None) -> TarIndex:
    """Read the headers of a tar and the classes in it.

    Args:
        shard: the tar.
        label_key: the key of .json members that tells the class. None: .cls, or .json, or .txt tells it.

    Raises:
        UserError: it is packed, cut off, or no tar; a member is given twice; an image has no class. The message names
            shard and member.
    """
    try:
        with shard.open("rb") as stream:
            status = os.fstat(stream.fileno())
            _require_plain(shard, stream.read(8), status.st_size)
            members = list(_members(shard, stream))
            images, labels, others = _samples(shard, members, stream.fileno(), label_key)
    except OSError as error:
        raise UserError(f"cannot read {shard}: {error.strerror or error}.") from error
    return TarIndex(status.st_size, status.st_mtime_ns, tuple(images), others, labels, label_key)


def _require_plain(shard: Path, first: bytes, num_bytes: int) -> None:
    if num_bytes == 0:
        raise UserError(f"{shard} has 0 bytes. Copy it again.")
    kind = next((kind for start, kind in _PACKED.items() if first.startswith(start)), None)
    if kind is not None:
        raise UserError(packed_message(shard, kind))


def packed_message(shard: Path, kind: str) -> str:
    """Why a packed shard is refused."""
    how = {"gzip": f"gunzip {shard.name}", "bzip2": f"bunzip2 {shard.name}", "xz": f"unxz {shard.name}"}
    return (
        f"{shard} is packed with {kind}: an image in the middle could not be read without unpacking all before it. "
        f"Unpack it{f': {how[kind]}' if kind in how else ', and pack it as a plain tar'}. Photos are packed already."
    )


def _members(shard: Path, stream: Any) -> Iterator[tarfile.TarInfo]:
    """The regular files of a tar, in order."""
    size = os.fstat(stream.fileno()).st_size
    stream.seek(0)
    end = 0
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps all
                if member.isreg() and not member.issparse():
                    end = member.offset_data + member.size
                    if end > size:
                        raise tarfile.ReadError(f"{member.name} ends behind its end")
                    yield member
                elif not member.isdir():
                    raise UserError(f"{shard}: {printable(member.name)} is no plain file (a link or a device).")
                else:
                    end = member.offset_data
    except (tarfile.TarError, EOFError, ValueError) as error:
        where = f" after {end:,} bytes" if end else ""
        raise UserError(
            f"{shard} is no whole tar{where}: {error}. It may be cut off: copy or download it again."
        ) from error
    end = -(-end // _BLOCK_BYTES) * _BLOCK_BYTES
    if os.pread(stream.fileno(), _BLOCK_BYTES, end) != bytes(_BLOCK_BYTES):
        raise UserError(
            f"{shard} has no end mark after {end:,} bytes, so it is probably cut off. Copy or download it again."
        )


def _samples(
    shard: Path, members: list[tarfile.TarInfo], descriptor: int, label_key: str | None
) -> tuple[list[TarImage], str, dict[str, int]]:
    """(the images, which members told their classes, how many others there are of each suffix)."""
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, dict[str, tarfile.TarInfo]] = {suffix: {} for suffix in LABEL_SUFFIXES}
    others: collections.Counter[str] = collections.Counter()
    for member in members:
        name = member.name.removeprefix("./")
        key, suffix = split_name(name)
        if suffix not in IMAGE_SUFFIXES and suffix not in LABEL_SUFFIXES:
            others[suffix or "without a suffix"] += 1
            continue
        known = labels[suffix] if suffix in LABEL_SUFFIXES else images
        if key in known:
            first = known[key].name
            twice = f"{printable(name)} twice" if first == member.name else f"{printable(first)} and {printable(name)}"
            raise UserError(f"{shard} holds {twice}: one key, {printable(key)}. Each key may have one image.")
        known[key] = member
    used = choose_suffix(shard, images, labels, label_key)
    for suffix in LABEL_SUFFIXES:
        if suffix != used and labels[suffix]:
            others[suffix] += len(labels[suffix])
    if lonely := len(labels[used].keys() - images.keys()):
        others[f"{used} without an image"] = lonely
    class_of = read_labels(shard, used, {key: labels[used][key] for key in images}, descriptor, label_key)
    found = [TarImage(member.name, member.offset_data, member.size, class_of[key]) for key, member in images.items()]
    return found, used, dict(others)


def read_index(path: Path) -> TarIndex | None:
    """An index file; None if it is missing, broken or of another version."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["version"] not in (INDEX_VERSION, VERSION_WITH_NAMES):
            return None
        has_names = fields["version"] == VERSION_WITH_NAMES
        images = tuple(
            TarImage(str(name), int(at), int(size), label if has_names and isinstance(label, str) else int(label))
            for name, at, size, label in fields["images"]
        )
        others = {str(suffix): int(number) for suffix, number in fields["others"].items()}
        told = (str(fields["labels"]), fields["label_key"]) if has_names else (".cls", None)
        return TarIndex(int(fields["num_bytes"]), int(fields["mtime_ns"]), images, others, *told)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_index(path: Path, index: TarIndex) -> bool:
    """Write an index file, whole or not at all. Returns whether it could be written."""
    is_of_numbers = (index.labels, index.label_key) == (".cls", None)
    fields = {
        "version": INDEX_VERSION if is_of_numbers else VERSION_WITH_NAMES,
        **({} if is_of_numbers else {"labels": index.labels, "label_key": index.label_key}),
        "num_bytes": index.num_bytes,
        "mtime_ns": index.mtime_ns,
        "others": index.others,
        "images": [dataclasses.astuple(image) for image in index.images],
    }
    text = json.dumps(fields, ensure_ascii=True, separators=(",", ":"))  # names need not be UTF-8
    with contextlib.suppress(OSError, UserError):
        with written_aside(path) as aside:
            aside.write_text(text, encoding="ascii")
        return True
    return False
