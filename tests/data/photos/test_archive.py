from __future__ import annotations

import os
import stat
import zipfile
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
    ["../0_a.jpg", "train/../../0_a.jpg", "/etc/0_a.jpg", "C:/0_a.jpg", "C:0_a.jpg", "train\\0_a.jpg", "../notes.txt"],
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
