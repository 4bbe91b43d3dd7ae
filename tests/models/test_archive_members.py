"""A zip archive whose members cannot be those of torch.save is refused before torch unpacks them."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from signs_dist.errors import UserError
from signs_dist.models.archive_members import find_bad_member
from signs_dist.models.weights import read_plain

Member = tuple[str, bytes, int]
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
COMPRESSED_SIZE, SIZE, OFFSET = 20, 24, 42
"""Places in a member's entry in the directory of a zip archive."""


def saved(num_values: int = 1000) -> bytes:
    stream = io.BytesIO()
    torch.save({"weight": torch.arange(num_values, dtype=torch.float32)}, stream)
    return stream.getvalue()


def repacked(change: Callable[[str, bytes], list[Member]]) -> bytes:
    """The saved file with other members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved())) as source, zipfile.ZipFile(stream, "w") as target:
        for name in source.namelist():
            for new_name, content, method in change(name, source.read(name)):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # about two members of one name
                    target.writestr(new_name, content, method)
    return stream.getvalue()


def stating(place: int, *numbers: int) -> bytes:
    """The saved file, whose directory states other numbers for the tensor."""
    content = bytearray(saved())
    entry = content.rindex(b"/data/0") - len("archive") - 46
    assert content[entry : entry + 4] == b"PK\x01\x02"
    struct.pack_into(f"<{len(numbers)}I", content, entry + place, *numbers)
    return bytes(content)


def bomb(name: str, content: bytes) -> list[Member]:
    return [(name, bytes(20_000_000) if name.endswith("/data/0") else content, DEFLATED)]


def twice(part: str) -> Callable[[str, bytes], list[Member]]:
    return lambda name, content: [(name, content, STORED)] * (2 if name.endswith(part) else 1)


REFUSED = {
    "bomb": (repacked(bomb), "bytes, and would unpack to 20,0"),
    "bzip2": (repacked(lambda name, content: [(name, content, zipfile.ZIP_BZIP2)]), "is compressed by a method that"),
    "lzma": (repacked(lambda name, content: [(name, content, zipfile.ZIP_LZMA)]), "is compressed by a method that"),
    "two pickles": (repacked(twice("data.pkl")), "it holds 2 members of the name archive/data.pkl."),
    "two tensors": (repacked(twice("data/0")), "it holds 2 members of the name archive/data/0."),
    "large by its directory": (stating(SIZE, 2**31), "its member archive/data/0 has two sizes."),
    "small by its directory": (stating(SIZE, 16), "its member archive/data/0 has two sizes."),
    "longer than the file": (stating(COMPRESSED_SIZE, 2**31, 2**31), "archive/data/0 reaches beyond the end of the"),
    "beyond the end": (stating(OFFSET, 2**31), "archive/data/0 reaches beyond the end of the file."),
    "no directory": (saved()[:-100], "it is cut off or damaged."),
}


@pytest.mark.parametrize(("content", "told"), REFUSED.values(), ids=REFUSED)
def test_members_that_torch_did_not_save_are_refused(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    assert told in find_bad_member(path)
    with pytest.raises(UserError) as caught:
        read_plain(path)
    assert str(caught.value) == f"{path} cannot be read as a checkpoint: {find_bad_member(path)}"


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_a_file_that_was_packed_again_is_read(tmp_path: Path, method: int) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(repacked(lambda name, content: [(name, content, method)]))
    assert find_bad_member(path) == ""
    assert torch.equal(read_plain(path)["weight"], torch.arange(1000, dtype=torch.float32))


def test_a_pickle_that_no_model_and_no_run_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(repacked(lambda name, content: [(name, content + bytes(99 * (name[-4:] == ".pkl")), STORED)]))
    assert find_bad_member(path) == find_bad_member(path, 1000) == ""
    assert "data.pkl has " in find_bad_member(path, 99)
    assert read_plain(path, 1000)
    with pytest.raises(UserError, match=r"a file of weights or a run it has at most 99\. Give the file as torch.save"):
        read_plain(path, 99)


def test_a_file_that_is_no_archive_is_left_to_others(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    assert find_bad_member(path) == ""
    assert list(read_plain(path)) == ["weight"]
