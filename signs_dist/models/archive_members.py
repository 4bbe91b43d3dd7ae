"""Whether the members of a file of torch.save can be read, before torch reads them. A file is a zip archive.

torch.save packs without compression. A member may still be compressed, when somebody has packed the file again; torch
unpacks it as a whole, however large it is, before it compares its size with that of the tensor.
"""

from __future__ import annotations

import collections
import zipfile
from pathlib import Path

ZIP_HEAD = b"PK\x03\x04"
"""The first bytes of a zip archive."""
MAX_RATIO = 16
"""How often larger than the file its unpacked members may be. Compressed weights reach 2, of a pruned model 10."""
MAX_PICKLE_BYTES = 2**24
"""How large the pickle of a model or a run may be; that of 1,000 tensors has 200 kB. Reading takes about 1 s per MB."""


def find_bad_member(path: Path, max_pickle_bytes: int | None = None) -> str:
    """Why the members of a file cannot be read, in a sentence; "" if they can, and for a file that is no zip archive.

    Args:
        path: a regular file. No member of it is unpacked.
        max_pickle_bytes: how large the description of its values, `data.pkl`, may be; None: as large as it is.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("rb") as stream:
        if stream.read(len(ZIP_HEAD)) != ZIP_HEAD:
            return ""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "it is cut off or damaged. Copy or download it again."
    num_bytes = path.stat().st_size
    for name, number in collections.Counter(member.filename for member in members).items():
        if number > 1:
            return f"it holds {number} members of the name {name[:80]}. {_WAY_OUT}"
    for member in members:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return f"its member {member.filename[:80]} is compressed by a method that torch does not read. {_WAY_OUT}"
        if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
            return f"it is damaged: its member {member.filename[:80]} has two sizes. Copy or download it again."
        if member.header_offset + member.compress_size > num_bytes:
            return f"its member {member.filename[:80]} reaches beyond the end of the file. Copy or download it again."
        is_pickle = member.filename.endswith("/data.pkl")
        if is_pickle and max_pickle_bytes is not None and member.file_size > max_pickle_bytes:
            return (
                f"its member {member.filename[:80]} has {member.file_size:,} bytes, and in a file of weights or a run "
                f"it has at most {max_pickle_bytes:,}. {_WAY_OUT}"
            )
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_RATIO * num_bytes:
        return f"it has {num_bytes:,} bytes, and would unpack to {unpacked:,}. {_WAY_OUT}"
    return ""


_WAY_OUT = "Give the file as torch.save wrote it."
