from __future__ import annotations

import os
import random
import stat
import zipfile
from pathlib import Path

import pytest

from signs_dist.data.images import BadImageError
from signs_dist.data.photos import archive
from signs_dist.data.photos.archive import SourceFile
from signs_dist.data.photos.sources import Arrangement, SourceReader, arrange, list_source
from signs_dist.data.photos.split import published_split
from signs_dist.errors import UserError
from tests.data.photo_files import jpeg, write_files, write_zip

CAT_AND_DOG = [(None, "cat", "cat/a.png"), (None, "dog", "dog/b.png")]
CAT_TRAIN_DOG_VAL = [("train", "cat", "cat/a.png"), ("val", "dog", "dog/x/b.png")]


def arranged(*names: str) -> Arrangement:
    return arrange([SourceFile(name, 1, "") for name in names], Path("photos"))


def test_published_split_is_the_published_folders(real_photos: Path) -> None:
    train = {path.name for path in (real_photos / "train_signs").iterdir()}
    val = {path.name for path in (real_photos / "val_signs").iterdir()}
    names = list(train | val)
    random.Random(1).shuffle(names)
    assert published_split(names) == (sorted(train), sorted(val))
    assert len(val) == 216
    assert published_split(names, seed=231)[1] != sorted(val)


def test_split_by_another_share() -> None:
    train, val = published_split([str(number) for number in range(10)], val_share=0.5)
    assert (len(train), len(val), len({*train, *val})) == (5, 5, 10)


@pytest.mark.parametrize(
    ("names", "layout", "found"),
    [
        (["train_signs/0_a.jpg", "test_signs/1_b.jpg"], "flat", [("train", "0", "0_a.jpg"), ("test", "1", "1_b.jpg")]),
        (["S/train/0_a.jpg", "S/val/1_b.jpg"], "flat", [("train", "0", "0_a.jpg"), ("val", "1", "1_b.jpg")]),
        (["train/cat/a.png", "val/dog/x/b.png"], "class_folders", CAT_TRAIN_DOG_VAL),
        (["cat/a.png", "dog/b.png"], "class_folders", CAT_AND_DOG),
        (["pets/cat/a.png", "pets/dog/b.png"], "class_folders", CAT_AND_DOG),
        (["0_a.png", "1_b.png"], "flat", [(None, "0", "0_a.png"), (None, "1", "1_b.png")]),
        (["all/0_a.png", "all/1_b.png"], "flat", [(None, "0", "0_a.png"), (None, "1", "1_b.png")]),
    ],
)
def test_layouts(names: list[str], layout: str, found: list[tuple[str | None, str, str]]) -> None:
    arrangement = arranged(*names)
    assert arrangement.layout == layout
    assert [(image.split, image.class_name, image.name) for image in arrangement.images] == found


def test_bad_names_and_images_outside_are_told_apart() -> None:
    arrangement = arranged("train_signs/0_a.jpg", "train_signs/x.jpg", "train_signs/1_\udcff.jpg", "cover.jpg")
    assert [image.name for image in arrangement.images] == ["0_a.jpg"]
    assert [path for path, _ in arrangement.bad_names] == ["train_signs/1_\\udcff.jpg", "train_signs/x.jpg"]
    assert arrangement.outside == ("cover.jpg",)
    assert arranged("0_at 9.41\u202fPM.png").images  # the narrow space of macOS screenshots


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no images"),
        (["test_signs/0_a.jpg"], "has test_signs/ but no training images"),
        (["train/0_a.jpg", "train_signs/0_a.jpg"], "has both train/ and train_signs/ for train"),
        (["train/0_a.jpg", "train/cat/a.jpg"], "Use one layout"),
        (["a/train/0_a.jpg", "b/train/0_a.jpg"], "holds several data sets: a, b"),
    ],
)
def test_sources_that_are_no_data_set(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        arranged(*names)


def test_side_files_are_passed_over(tmp_path: Path) -> None:
    names = ["train/0_a.jpg", "train/._0_a.jpg", "__MACOSX/train/0_a.jpg", "train/.DS_Store", "Thumbs.db", ".x/0_a.jpg"]
    files = dict.fromkeys(names, b"x")
    assert [file.path for file in list_source(write_files(tmp_path / "f", files))] == ["train/0_a.jpg"]
    assert [file.path for file in list_source(write_zip(tmp_path / "z.zip", files))] == ["train/0_a.jpg"]


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
        list_source(path)
    assert repr(name) in str(caught.value)


def test_links_encrypted_members_and_duplicates_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("train/0_link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as writer:
        writer.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match=r"'train/0_link.jpg' is a link or a device"):
        list_source(tmp_path / "link.zip")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as writer:
        writer.writestr("train/0_a.jpg", b"x")
        with pytest.warns(UserWarning, match="Duplicate"):
            writer.writestr("train/0_a.jpg", b"y")
    with pytest.raises(UserError, match=r"'train/0_a.jpg' twice"):
        list_source(tmp_path / "twice.zip")
    data = bytearray(write_zip(tmp_path / "plain.zip", {"train/0_a.jpg": b"x"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption in the central directory
    (tmp_path / "secret.zip").write_bytes(data)
    with pytest.raises(UserError, match=r"'train/0_a.jpg' is encrypted"):
        list_source(tmp_path / "secret.zip")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = write_zip(tmp_path / "bomb.zip", {"train/0_a.bmp": bytes(2**21)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"'train/0_a.bmp' unpacks from .* to 2,097,152 bytes.*decompression bomb"):
        list_source(bomb)
    large = write_zip(tmp_path / "large.zip", {"train/0_a.bmp": os.urandom(3000)})
    assert len(list_source(large)) == 1
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 2999)
    with pytest.raises(UserError, match="decompression bomb"):
        list_source(large)
    monkeypatch.setattr(archive, "MAX_MEMBERS", 0)
    with pytest.raises(UserError, match="has 1 members, more than 0"):
        list_source(large)


def test_what_is_no_zip(tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "a.zip", {"train/0_a.jpg": jpeg(1)}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-40])
    (tmp_path / "text.zip").write_bytes(b"hello")
    for name in ("cut.zip", "text.zip"):
        with pytest.raises(UserError, match="is not a complete zip"):
            list_source(tmp_path / name)
    with pytest.raises(UserError, match="there is no zip or folder"):
        list_source(tmp_path / "none.zip")


def test_damaged_member_is_a_bad_image(tmp_path: Path) -> None:
    content = jpeg(1)
    path = write_zip(tmp_path / "a.zip", {"train/0_a.jpg": content})
    data = path.read_bytes()
    path.write_bytes(data.replace(content[100:110], b"0123456789"))
    with SourceReader(path) as reader, pytest.raises(BadImageError, match=r"cannot be unpacked.*CRC"):
        reader.read("train/0_a.jpg")


def test_link_loop_and_dangling_link_in_a_folder(tmp_path: Path) -> None:
    write_files(tmp_path, {"train/cat/a.jpg": b"x"})
    (tmp_path / "train/cat/loop").symlink_to(tmp_path)
    (tmp_path / "train/cat/gone.jpg").symlink_to(tmp_path / "nowhere")
    assert sorted(file.path for file in list_source(tmp_path)) == ["train/cat/a.jpg", "train/cat/gone.jpg"]
