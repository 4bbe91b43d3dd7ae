"""Zip files of images: checked when listed, read member by member, never unpacked to disk."""

from __future__ import annotations

import dataclasses
import functools
import re
import shlex
import stat
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from signs_dist.data.content import NUM_FIRST_BYTES, kind_of_file, read_first_bytes
from signs_dist.data.images import BadImageError
from signs_dist.data.listing import Collector, PassedOver, is_image
from signs_dist.data.litter import litter_in
from signs_dist.data.names import listed
from signs_dist.errors import UserError

MAX_MEMBERS = 2_000_000
"""A zip with more members is refused: image data sets of this size are not published as one zip."""
MAX_MEMBER_BYTES = 512 * 2**20
"""Largest unpacked image: an uncompressed image of the largest legal number of pixels, with room to spare."""
MAX_RATIO = 200
"""Largest unpacked size over packed size. Photos reach 5; a bomb made with deflate reaches 1,032."""
MIN_BOMB_BYTES = 2**20
"""Below this size a high ratio is harmless, such as that of a blank image."""

_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz"}
_BYTES_PER_PIECE = 2**20
_UNPACK = {
    **dict.fromkeys(("tar", "gzip", "bzip2", "xz", "zstd"), "mkdir photos && tar -xf {} -C photos"),
    "7z": "7z x {} -ophotos",
    "rar": "unrar x {} photos/",
}
"""Kind of an archive → the command that unpacks it into the folder photos."""
_NOT_UNPACKED = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, RuntimeError, KeyError, ValueError,
)  # fmt: skip
"""What zipfile raises on members that are damaged."""


@dataclass(frozen=True)
class SourceFile:
    """A file of a source, by its path with forward slashes relative to the zip or folder."""

    path: str
    num_bytes: int
    stamp: str
    """Changes when the content does: the checksum in a zip, the modification time in a folder."""


@dataclass(frozen=True)
class SourceListing(Sequence[SourceFile]):
    """The image files of a source, and what lies beside them."""

    files: tuple[SourceFile, ...]
    passed_over: PassedOver = dataclasses.field(default_factory=PassedOver)
    num_others: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """As in `listing.Listing`."""
    notes: tuple[str, ...] = ()
    """What a user should know about how the files' names were read."""

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> SourceFile: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[SourceFile]: ...
    def __getitem__(self, index: int | slice) -> SourceFile | Sequence[SourceFile]:
        return self.files[index]


def list_zip(path: Path) -> SourceListing:
    """List the image files of a zip.

    Raises:
        UserError: the file is not a complete zip, or has more than `MAX_MEMBERS` members; or a member would be
            unpacked outside the folder, is a link or a device, is encrypted, is given twice, is a decompression bomb,
            or is packed by a method that cannot be unpacked in small pieces.
    """
    found = Collector()
    files: dict[str, SourceFile] = {}
    with open_zip(path) as archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise UserError(
                f"{path} has {len(members):,} members, more than {MAX_MEMBERS:,}. Unpack it and give the folder."
            )
        for member in members:
            _check_member(path, member)
            name = member_path(member)
            litter = litter_in(name)
            if litter is not None:
                found.pass_over("litter", litter)
                continue
            _add_folders(found, name if _is_folder(member) else name.rpartition("/")[0])
            if _is_folder(member) or not name:
                continue
            if not is_image(name.rpartition("/")[2], functools.partial(_first_bytes, archive, member)):
                found.add_other(name)
                continue
            _check_image_member(path, member)
            if name in files:
                raise UserError(f"{path} has the member {name!r} twice. Pack it again, or give a folder.")
            files[name] = SourceFile(name, member.file_size, f"crc {member.CRC:08x}")
    listing = found.listing()
    return SourceListing(tuple(files.values()), listing.passed_over, listing.num_others, _notes(members))


def member_path(member: zipfile.ZipInfo) -> str:
    r"""The path of a member with forward slashes, without `.` and empty parts, and without a slash at its end.

    Old programs of Windows write `\` between folders. Names that are not marked as UTF-8 are of code page 437 by the
    standard (APPNOTE.TXT, appendix D), but macOS and others write UTF-8 unmarked.
    """
    name = _utf8_name(member) or member.orig_filename  # `filename` ends at a NUL byte
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip for reading.

    Raises:
        UserError: it cannot be read, or is not a complete zip.
    """
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError) as error:
        raise UserError(_why_no_zip(path, error)) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Check the path and its permissions.") from error


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of one member, its checksum checked. It is read in pieces and never beyond the size in its header.

    Raises:
        BadImageError: it cannot be unpacked, or is longer or shorter than its header says.
    """
    shown = f"{Path(archive.filename or 'zip').name}/{member_path(member)}"
    content = bytearray()
    try:
        with archive.open(member) as stream:
            # One read of all bytes would unpack all packed bytes, whatever the header says of their number.
            while piece := stream.read(_BYTES_PER_PIECE):
                content += piece
    except _NOT_UNPACKED as error:
        raise BadImageError(shown, f"cannot be unpacked ({error})") from error
    if len(content) != member.file_size:
        raise BadImageError(shown, f"has {len(content):,} bytes, not the {member.file_size:,} that the zip states")
    return bytes(content)


def _why_no_zip(path: Path, error: Exception) -> str:
    first = read_first_bytes(path)
    kind = None if first.startswith(b"PK") else kind_of_file(first, path.name)
    if not first:
        return f"{path} has 0 bytes. Give a zip or a folder of photos."
    if kind is None:
        return (
            f"{path} is not a complete zip ({error}). Copy or download it again (SIGNS.zip: "
            f"python -m signs_dist.data.download), or give the unpacked folder."
        )
    unpack = next((command for word, command in _UNPACK.items() if f" {word} " in f"{kind} "), None)
    if unpack is not None:
        command = unpack.format(shlex.quote(str(path)))
        return f"{path} is {kind}, not a zip. Unpack it ({command}) and give the folder: photos."
    return (
        f"{path} is {kind}. Give a zip or a folder of photos. Labels come from names: a folder for each class, such as "
        f"cat/1.jpg, or the label before an underscore, such as 3_IMG_5942.jpg. A list of labels is not read."
    )


def _add_folders(found: Collector, folder: str) -> None:
    while folder:
        found.add_folder(folder)
        folder = folder.rpartition("/")[0]


def _is_folder(member: zipfile.ZipInfo) -> bool:
    return member.orig_filename.endswith(("/", "\\"))


def _utf8_name(member: zipfile.ZipInfo) -> str | None:
    """A member's name, where it is UTF-8; None for bytes of an unknown code page, which zipfile reads as 437."""
    name = member.orig_filename
    if member.flag_bits & 0x800 or name.isascii():
        return name
    try:
        return name.encode("cp437").decode()
    except UnicodeError:
        return None


def _notes(members: Sequence[zipfile.ZipInfo]) -> tuple[str, ...]:
    unknown = [member_path(member) for member in members if _utf8_name(member) is None]
    if not unknown:
        return ()
    return (
        f"names in the zip without a known encoding are read as code page 437: {listed(unknown, 3)}. "
        f"If that is wrong, unpack the zip and give the folder.",
    )


def _first_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.flag_bits & 0x1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return b""
    try:
        with archive.open(member) as stream:
            return stream.read(NUM_FIRST_BYTES)
    except _NOT_UNPACKED:
        return b""


def _check_member(path: Path, member: zipfile.ZipInfo) -> None:
    name = member.orig_filename
    plain = name.replace("\\", "/")
    if plain.startswith("/") or ".." in plain.split("/") or "\0" in name or re.match("[A-Za-z]:", name):
        raise UserError(f"{path}: the member {name!r} would be unpacked outside the folder. Remove it from the zip.")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UserError(f"{path}: the member {name!r} is a link or a device, not a file. Remove it from the zip.")


def _check_image_member(path: Path, member: zipfile.ZipInfo) -> None:
    name = member_path(member)
    if member.flag_bits & 0x1:
        raise UserError(f"{path}: the member {name!r} is encrypted. Unpack the zip and give the folder.")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile unpacks the others without a limit on the memory.
        method = _METHODS.get(member.compress_type, f"method {member.compress_type}")
        raise UserError(
            f"{path}: the member {name!r} is packed with {method}. Stored and deflated members are read: pack it again "
            f"with zip -r, or unpack it and give the folder."
        )
    ratio = member.file_size / max(1, member.compress_size)
    if member.file_size > MAX_MEMBER_BYTES or (member.file_size > MIN_BOMB_BYTES and ratio > MAX_RATIO):
        raise UserError(
            f"{path}: the member {name!r} unpacks from {member.compress_size:,} to {member.file_size:,} "
            f"bytes, which no photo does: a decompression bomb. Remove it from the zip."
        )
