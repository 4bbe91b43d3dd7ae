from __future__ import annotations

import bz2
import gzip
import os
import stat
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest

from signs_dist.data.images import BadImageError
from signs_dist.data.photos import archive
from signs_dist.data.photos.archive import list_zip
from signs_dist.data.photos.sources import SourceReader
from signs_dist.errors import UserError
from tests.data.photo_files import jpeg, write_zip


@pytest.mark.parametrize(
    "name",
    [
        *("../0_a.jpg", "train/../../0_a.jpg", "/etc/0_a.jpg", "C:/0_a.jpg", "C:0_a.jpg", "../notes.txt"),
        *("..\\0_a.jpg", "train\\..\\..\\0_a.jpg", "\\etc\\0_a.jpg", "C:\\0_a.jpg", "\\\\host\\0_a.jpg"),
    ],
)
def test_members_that_leave_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as writer:
        writer.writestr("train/0_good.jpg", b"x")
        member = zipfile.ZipInfo("placeholder")
        member.filename = name
        writer.writestr(member, b"x")
    with pytest.raises(UserError, match=r"would be unpacked outside the folder. Remove it from the zip") as caught:
        list_zip(path)
    assert repr(name) in str(caught.value)


def test_links_encrypted_members_and_duplicates_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("train/0_link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as writer:
        writer.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match=r"'train/0_link.jpg' is a link or a device"):
        list_zip(tmp_path / "link.zip")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as writer:
        writer.writestr("train/0_a.jpg", b"x")
        with pytest.warns(UserWarning, match="Duplicate"):
            writer.writestr("train/0_a.jpg", b"y")
    with pytest.raises(UserError, match=r"'train/0_a.jpg' twice"):
        list_zip(tmp_path / "twice.zip")
    data = bytearray(write_zip(tmp_path / "plain.zip", {"train/0_a.jpg": b"x"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption in the central directory
    (tmp_path / "secret.zip").write_bytes(data)
    with pytest.raises(UserError, match=r"'train/0_a.jpg' is encrypted"):
        list_zip(tmp_path / "secret.zip")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = write_zip(tmp_path / "bomb.zip", {"train/0_a.bmp": bytes(2**21)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"'train/0_a.bmp' unpacks from .* to 2,097,152 bytes.*decompression bomb"):
        list_zip(bomb)
    large = write_zip(tmp_path / "large.zip", {"train/0_a.bmp": os.urandom(3000)})
    assert len(list_zip(large)) == 1
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 2999)
    with pytest.raises(UserError, match="decompression bomb"):
        list_zip(large)
    monkeypatch.setattr(archive, "MAX_MEMBERS", 0)
    with pytest.raises(UserError, match="has 1 members, more than 0"):
        list_zip(large)


def test_what_is_no_zip(tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "a.zip", {"train/0_a.jpg": jpeg(1)}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-40])
    (tmp_path / "text.zip").write_bytes(b"hello")
    (tmp_path / "empty.zip").write_bytes(b"")
    with pytest.raises(UserError, match=r"has 0 bytes. Give a zip or a folder of photos"):
        list_zip(tmp_path / "empty.zip")
    for name in ("cut.zip", "text.zip"):
        with pytest.raises(UserError, match="is not a complete zip"):
            list_zip(tmp_path / name)
    with pytest.raises(UserError, match=r"cannot read .*none.zip: No such file"):
        list_zip(tmp_path / "none.zip")


def test_damaged_member_is_a_bad_image(tmp_path: Path) -> None:
    content = jpeg(1)
    path = write_zip(tmp_path / "a.zip", {"train/0_a.jpg": content})
    data = path.read_bytes()
    path.write_bytes(data.replace(content[100:110], b"0123456789"))
    with SourceReader(path) as reader, pytest.raises(BadImageError, match=r"cannot be unpacked.*CRC"):
        reader.read("train/0_a.jpg")


def write_members(path: Path, names: dict[str, bytes], *, is_utf8: bool = True) -> Path:
    """A zip whose members have these names exactly as they are given, or the bytes of them if not marked as UTF-8."""
    with zipfile.ZipFile(path, "w") as writer:
        for name, content in names.items():
            member = zipfile.ZipInfo("placeholder")
            member.filename = name
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of names that are given twice
                writer.writestr(member, content)
    if not is_utf8:
        data = bytearray(path.read_bytes())
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = -1
            while (at := data.find(signature, at + 1)) >= 0:
                data[at + offset + 1] &= ~0x08  # bit 11 of the flags
        path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train\\cat\\0.jpg", "train\\dog\\1.jpg"], ["train/cat/0.jpg", "train/dog/1.jpg"]),
        (["train\\cat/0.jpg", "train/dog/1.jpg"], ["train/cat/0.jpg", "train/dog/1.jpg"]),
        (["./cat/0.jpg", "./dog/1.jpg"], ["cat/0.jpg", "dog/1.jpg"]),
        (["cat//0.jpg", "dog/./1.jpg"], ["cat/0.jpg", "dog/1.jpg"]),
        (["caf\u00e9/0.jpg", "\u732b/1.jpg"], ["caf\u00e9/0.jpg", "\u732b/1.jpg"]),
    ],
)
@pytest.mark.parametrize("is_utf8", [True, False])
def test_members_as_windows_and_others_write_them(
    names: list[str], expected: list[str], is_utf8: bool, tmp_path: Path
) -> None:
    contents = {name: jpeg(number) for number, name in enumerate(names)}
    path = write_members(tmp_path / "a.zip", contents, is_utf8=is_utf8)
    listing = list_zip(path)
    assert [file.path for file in listing] == expected
    assert listing.notes == ()
    with SourceReader(path) as reader:
        assert [reader.read(name) for name in expected] == list(contents.values())


def test_names_of_an_unknown_code_page_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as writer:
        writer.writestr("cafX/0.jpg", jpeg(1))
    path.write_bytes(path.read_bytes().replace(b"cafX", b"caf\x82"))  # an e with an acute accent in code page 437
    listing = list_zip(path)
    assert [file.path for file in listing] == ["caf\u00e9/0.jpg"]
    assert "read as code page 437: caf\u00e9/0.jpg" in listing.notes[0]


def test_a_name_twice_in_two_ways_of_writing_is_refused(tmp_path: Path) -> None:
    path = write_members(tmp_path / "a.zip", {"cat/0.jpg": b"x", "cat\\0.jpg": b"y"})
    with pytest.raises(UserError, match=r"has the member 'cat/0.jpg' twice"):
        list_zip(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "photos.tar.gz",
            gzip.compress(b"x", mtime=0),
            r"is a gzip archive, not a zip. Unpack it \(mkdir photos && tar -xf .*gz -C photos",
        ),
        ("photos.tbz", bz2.compress(b"x"), r"is a bzip2 archive, not a zip. Unpack it \(mkdir photos && tar -xf"),
        ("photos.7z", b"7z\xbc\xaf\x27\x1c", r"is a 7z archive, not a zip. Unpack it \(7z x .*photos.7z -ophotos\)"),
        ("photos.rar", b"Rar!\x1a\x07\x01\0", r"is a rar archive, not a zip. Unpack it \(unrar x"),
        ("photos.zip", b"Rar!\x1a\x07\x01\0", r"is a rar archive, not a zip"),
        (
            "labels.csv",
            b"path,label\n",
            r"is a CSV table. Give a zip or a folder of photos.*A list of labels is not read",
        ),
        ("labels.txt", b"1.jpg cat\n", r"is a text file. Give a zip or a folder"),
        ("labels.json", b"{}", r"is a JSON file. Give a zip or a folder"),
        ("labels.parquet", b"PAR1", r"is a Parquet table. Give a zip or a folder"),
        ("cat.jpg", jpeg(1), r"is one JPEG image. Give a zip or a folder"),
        ("odd name.tar", bytes(257) + b"ustar", r"tar -xf '.*odd name.tar' -C photos"),
    ],
)
def test_other_files_as_a_source_are_told_for_what_they_are(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        list_zip(tmp_path / name)
    assert "ownload" not in str(error.value)


@pytest.mark.parametrize(("method", "word"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA")])
def test_members_that_cannot_be_unpacked_in_pieces_are_refused(method: int, word: str, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"cat/0.jpg": bytes(2**22), "cat/notes": b"x"}, method)
    with pytest.raises(UserError, match=f"'cat/0.jpg' is packed with {word}. Stored and deflated members are read"):
        list_zip(path)


def test_a_member_that_unpacks_to_more_than_it_states_costs_no_memory(tmp_path: Path) -> None:
    size, stated = 64 * 2**20, 1000
    path = write_zip(tmp_path / "bomb.zip", {"cat/0.jpg": bytes(size)}, zipfile.ZIP_DEFLATED)
    data = path.read_bytes().replace(struct.pack("<I", size), struct.pack("<I", stated))
    path.write_bytes(
        data.replace(struct.pack("<I", zlib.crc32(bytes(size))), struct.pack("<I", zlib.crc32(bytes(stated))))
    )
    assert [file.num_bytes for file in list_zip(path)] == [stated]
    with SourceReader(path) as reader:
        tracemalloc.start()
        content = reader.read("cat/0.jpg")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert content == bytes(stated)
    assert peak < 8 * 2**20


def test_a_member_that_is_shorter_than_it_states_is_a_bad_image(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"cat/0.jpg": b"x" * 100}, zipfile.ZIP_DEFLATED)
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 100), struct.pack("<I", 200)))
    with (
        SourceReader(path) as reader,
        pytest.raises(BadImageError, match=r"cannot be unpacked|has 100 bytes, not the 200"),
    ):
        reader.read("cat/0.jpg")


def test_an_encrypted_member_without_a_suffix_is_passed_over(tmp_path: Path) -> None:
    data = bytearray(write_zip(tmp_path / "a.zip", {"cat/0": jpeg(1)}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    assert list_zip(tmp_path / "a.zip").passed_over.not_images.examples == ("cat/0",)
