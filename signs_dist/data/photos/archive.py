"""Zip files of images: checked when listed, read member by member, never unpacked to disk."""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from signs_dist.data.images import BadImageError, is_image_name
from signs_dist.errors import UserError

MAX_MEMBERS = 2_000_000
"""A zip with more members is refused: image data sets of this size are not published as one zip."""
MAX_MEMBER_BYTES = 512 * 2**20
"""Largest unpacked image: an uncompressed image of the largest legal number of pixels, with room to spare."""
MAX_RATIO = 200
"""Largest unpacked size over packed size. Photos reach 5; a bomb made with deflate reaches 1,032."""
MIN_BOMB_BYTES = 2**20
"""Below this size a high ratio is harmless, such as that of a blank image."""


@dataclass(frozen=True)
class SourceFile:
    """A file of a source, by its path with forward slashes relative to the zip or folder."""

    path: str
    num_bytes: int
    stamp: str
    """Changes when the content does: the checksum in a zip, the modification time in a folder."""


def is_side_file(path: str) -> bool:
    """Whether an operating system, not the user, wrote the file: hidden, a macOS resource fork, thumbnails."""
    parts = path.split("/")
    return any(part.startswith(".") or part == "__MACOSX" for part in parts) or parts[-1] == "Thumbs.db"


def list_zip(path: Path) -> list[SourceFile]:
    """List the image files of a zip.

    Raises:
        UserError: the file is not a complete zip, or has more than `MAX_MEMBERS` members; or a member would be
            unpacked outside the folder, is a link or a device, is encrypted, is given twice, or is a decompression
            bomb.
    """
    with open_zip(path) as archive:
        members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise UserError(
            f"{path} has {len(members):,} members, more than {MAX_MEMBERS:,}. Unpack it and give the folder."
        )
    files: dict[str, SourceFile] = {}
    for member in members:
        _check_member(path, member)
        if member.is_dir() or is_side_file(member.filename) or not is_image_name(member.filename.rpartition("/")[2]):
            continue
        _check_image_member(path, member)
        if member.filename in files:
            raise UserError(f"{path} has the member {member.filename!r} twice. Pack it again, or give a folder.")
        files[member.filename] = SourceFile(member.filename, member.file_size, f"crc {member.CRC:08x}")
    return list(files.values())


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip for reading.

    Raises:
        UserError: it cannot be read, or is not a complete zip.
    """
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError) as error:
        raise UserError(
            f"{path} is not a complete zip ({error}). "
            f"Download it again (python -m signs_dist.data.download), or give the unpacked folder."
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Check the path and its permissions.") from error


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of one member, its checksum checked.

    Raises:
        BadImageError: it cannot be unpacked.
    """
    shown = f"{Path(archive.filename or 'zip').name}/{name}"
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, RuntimeError, KeyError) as error:
        raise BadImageError(shown, f"cannot be unpacked ({error})") from error


def _check_member(path: Path, member: zipfile.ZipInfo) -> None:
    name = member.orig_filename  # `filename` ends at a NUL byte
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or re.match("[A-Za-z]:", name):
        raise UserError(f"{path}: the member {name!r} would be unpacked outside the folder. Remove it from the zip.")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UserError(f"{path}: the member {name!r} is a link or a device, not a file. Remove it from the zip.")


def _check_image_member(path: Path, member: zipfile.ZipInfo) -> None:
    if member.flag_bits & 0x1:
        raise UserError(f"{path}: the member {member.filename!r} is encrypted. Unpack the zip and give the folder.")
    ratio = member.file_size / max(1, member.compress_size)
    if member.file_size > MAX_MEMBER_BYTES or (member.file_size > MIN_BOMB_BYTES and ratio > MAX_RATIO):
        raise UserError(
            f"{path}: the member {member.filename!r} unpacks from {member.compress_size:,} to {member.file_size:,} "
            f"bytes, which no photo does: a decompression bomb. Remove it from the zip."
        )
