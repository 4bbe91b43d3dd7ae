"""Where each image lies in a tar: read once from its headers, and then kept in a small file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from signs_dist.data.images import IMAGE_SUFFIXES
from signs_dist.data.names import listed, printable
from signs_dist.errors import UserError
from signs_dist.files import written_aside

INDEX_VERSION = 1
INDEX_SUFFIX = ".index.json"
"""Appended to the name of a shard, it is the name of its index."""
MAX_LABEL_BYTES = 64
"""A .cls member holds a short number."""
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
"""First bytes of packed files → how they are packed."""
_BLOCK_BYTES = 512


@dataclasses.dataclass(frozen=True)
class TarImage:
    """An image in a tar: the name of its member, where its bytes begin, how many there are, and its class number."""

    name: str
    offset: int
    num_bytes: int
    label: int


@dataclasses.dataclass(frozen=True)
class TarIndex:
    """The images of a shard, in the order of its members.

    Attributes:
        num_bytes: size of the tar.
        mtime_ns: when it was written; with its size it tells whether the index is still that of the tar.
        images: its images.
        others: suffix → number of members that are neither an image nor its .cls.
    """

    num_bytes: int
    mtime_ns: int
    images: tuple[TarImage, ...]
    others: dict[str, int]


def split_name(name: str) -> tuple[str, str]:
    """A member's name as key and suffix: `cat/1.seg.png` is (`cat/1`, `.seg.png`), as in WebDataset.

    The suffix begins at the first point of the last part of the name; without one it is empty.
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, suffix = base.partition(".")
    return f"{folder}{slash}{stem}", f"{dot}{suffix}".lower()


def is_index_of(index: TarIndex | None, shard: Path) -> bool:
    """Whether an index belongs to the shard as it is now."""
    status = shard.stat()
    return index is not None and (index.num_bytes, index.mtime_ns) == (status.st_size, status.st_mtime_ns)


def scan(shard: Path) -> TarIndex:
    """Read the headers of a tar and the class numbers in it.

    Raises:
        UserError: it is packed, cut off, or no tar; a member is given twice; an image has no class number. The message
            names shard and member.
    """
    try:
        with shard.open("rb") as stream:
            status = os.fstat(stream.fileno())
            _require_plain(shard, stream.read(8), status.st_size)
            members = list(_members(shard, stream))
            images, others = _samples(shard, members, stream.fileno())
    except OSError as error:
        raise UserError(f"cannot read {shard}: {error.strerror or error}.") from error
    return TarIndex(status.st_size, status.st_mtime_ns, tuple(images), others)


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


def _samples(shard: Path, members: list[tarfile.TarInfo], descriptor: int) -> tuple[list[TarImage], dict[str, int]]:
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, tarfile.TarInfo] = {}
    has_json: set[str] = set()
    others: dict[str, int] = {}
    for member in members:
        name = member.name.removeprefix("./")
        key, suffix = split_name(name)
        if suffix in IMAGE_SUFFIXES or suffix == ".cls":
            known = labels if suffix == ".cls" else images
            if key in known:
                first = known[key].name
                twice = (
                    f"{printable(name)} twice" if first == member.name else f"{printable(first)} and {printable(name)}"
                )
                raise UserError(f"{shard} holds {twice}: one key, {printable(key)}. Each key may have one image.")
            known[key] = member
        else:
            has_json |= {key} if suffix == ".json" else set()
            others[suffix or "without a suffix"] = others.get(suffix or "without a suffix", 0) + 1
    without = [key for key in images if key not in labels]
    if without:
        hint = (
            f" Its labels seem to be in {printable(without[0])}.json; write the number of the class into a member .cls."
            if without[0] in has_json
            else " A sample is KEY.jpg and KEY.cls, whose text is the number of the class."
        )
        raise UserError(f"{shard}: {len(without):,} images have no .cls, such as {listed(without, 3)}.{hint}")
    if lonely := len(labels.keys() - images.keys()):
        others[".cls without an image"] = lonely
    return [
        TarImage(member.name, member.offset_data, member.size, _read_label(shard, labels[key], descriptor))
        for key, member in images.items()
    ], others


def _read_label(shard: Path, member: tarfile.TarInfo, descriptor: int) -> int:
    text = (
        os.pread(descriptor, min(member.size, MAX_LABEL_BYTES), member.offset_data).decode("utf-8", "replace").strip()
    )
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and member.size <= MAX_LABEL_BYTES):
        raise UserError(
            f"{shard}: {printable(member.name)} holds {text[:40]!r}, and must hold the number of a class, from 0. "
            f"Names of classes belong into classes.txt beside the shards, a line each."
        )
    return int(text)


def read_index(path: Path) -> TarIndex | None:
    """An index file; None if it is missing, broken or of another version."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["version"] != INDEX_VERSION:
            return None
        images = tuple(
            TarImage(str(name), int(at), int(size), int(label)) for name, at, size, label in fields["images"]
        )
        others = {str(suffix): int(number) for suffix, number in fields["others"].items()}
        return TarIndex(int(fields["num_bytes"]), int(fields["mtime_ns"]), images, others)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_index(path: Path, index: TarIndex) -> bool:
    """Write an index file, whole or not at all. Returns whether it could be written."""
    fields = {
        "version": INDEX_VERSION,
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
