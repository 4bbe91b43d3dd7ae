from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from signs_dist.data.shards.tar_index import (
    TarIndex,
    is_index_of,
    read_index,
    scan,
    split_name,
    write_index,
)
from signs_dist.errors import UserError
from tests.data.shards.tars import photo, samples, write_tar

RED = photo((9, 0, 0))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat/1.jpg", ("cat/1", ".jpg")),
        ("cat/1.seg.png", ("cat/1", ".seg.png")),
        ("v1.0/cat/1.JPG", ("v1.0/cat/1", ".jpg")),
        ("1", ("1", "")),
        (".hidden", ("", ".hidden")),
    ],
)
def test_key_and_suffix(name: str, expected: tuple[str, str]) -> None:
    assert split_name(name) == expected


def test_places_are_those_of_the_bytes(tmp_path: Path) -> None:
    long = f"cat/{'a' * 150}"  # a name that takes members of its own
    shard = write_tar(tmp_path / "s.tar", [*samples(("cat/1", 0), (long, 12)), ("cat/1.json", b"{}"), ("readme", b"x")])
    index = scan(shard)
    assert [(image.name, image.label) for image in index.images] == [("cat/1.png", 0), (f"{long}.png", 12)]
    assert index.others == {".json": 1, "without a suffix": 1}
    whole = shard.read_bytes()
    found = [whole[image.offset : image.offset + image.num_bytes] for image in index.images]
    assert found == [photo((0, 0, 7)), photo((1, 12, 7))]


def test_the_label_may_come_first_and_folders_are_passed_over(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", [("./1.cls", b"3\n"), ("./1.png", RED)])
    with tarfile.open(shard, "a") as tar:
        folder = tarfile.TarInfo("empty")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert [(image.name, image.label) for image in scan(shard).images] == [("./1.png", 3)]


def link(tar: tarfile.TarFile) -> None:
    member = tarfile.TarInfo("1.png")
    member.type, member.linkname = tarfile.SYMTYPE, "2.png"
    tar.addfile(member)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([("1.png", RED)], "s.tar: 1 images have no .cls, such as 1. A sample is KEY.jpg and KEY.cls, whose text is"),
        (
            [("1.png", RED), ("2.png", RED), ("1.json", b'{"label": 3}')],
            "1 images have no .json, such as 2. A sample is KEY.jpg and KEY.json.",
        ),
        ([("1.png", RED), ("1.cls", b"cat")], "s.tar: 1.cls holds 'cat', and must hold the number of a class, from 0."),
        ([("1.png", RED), ("1.cls", b"-1")], "1.cls holds '-1'"),
        ([("1.png", RED), ("1.cls", b"")], "1.cls holds ''"),
        ([("1.png", RED), ("1.cls", b"1" * 100)], "and must hold the number of a class"),
        ([*samples(("1", 0)), ("1.png", RED)], "s.tar holds 1.png twice: one key, 1. Each key may have one image."),
        ([*samples(("1", 0)), ("1.jpg", RED)], "s.tar holds 1.png and 1.jpg: one key, 1."),
        ([*samples(("1", 0)), ("1.cls", b"1")], "s.tar holds 1.cls twice"),
        ([("v1.0.png", RED), ("v1.1.png", RED)], "have no .cls"),
    ],
)
def test_members_that_make_no_samples_are_named(
    tmp_path: Path, members: list[tuple[str, bytes]], expected: str
) -> None:
    if members[0][0] == "v1.0.png":  # a point in a name ends the key, as in WebDataset: `.0.png` is no image's suffix
        assert scan(write_tar(tmp_path / "s.tar", members)).others == {".0.png": 1, ".1.png": 1}
        return
    with pytest.raises(UserError) as caught:
        scan(write_tar(tmp_path / "s.tar", members))
    assert expected in str(caught.value)


def test_a_link_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        link(tar)
    with pytest.raises(UserError, match=r"s\.tar: 1\.png is no plain file \(a link or a device\)"):
        scan(tmp_path / "s.tar")


@pytest.mark.parametrize("num_bytes", [0, 100, 512, 700, 1024, 1536, 2000])
def test_a_tar_that_is_cut_off_is_refused(tmp_path: Path, num_bytes: int) -> None:
    shard = write_tar(tmp_path / "s.tar", samples(("1", 0), ("2", 1)))
    os.truncate(shard, num_bytes)
    with pytest.raises(UserError, match=r"s\.tar (has 0 bytes|is no whole tar|has no end mark)") as caught:
        scan(shard)
    assert "again" in str(caught.value)


@pytest.mark.parametrize(("mode", "kind"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_a_packed_tar_is_refused_with_the_reason(tmp_path: Path, mode: str, kind: str) -> None:
    shard = write_tar(tmp_path / "s.tar", samples(("1", 0)), mode)
    with pytest.raises(UserError, match=f"is packed with {kind}: an image in the middle could not be read without"):
        scan(shard)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(b"no tar at all " * 100)
    with pytest.raises(UserError, match=r"s\.tar is no whole tar: "):
        scan(tmp_path / "s.tar")


def test_an_index_is_written_and_read_back(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", [*samples(("kät/ü", 3)), ("other.txt", b"")])
    index = scan(shard)
    assert write_index(tmp_path / "s.tar.index.json", index)
    assert read_index(tmp_path / "s.tar.index.json") == index
    assert is_index_of(index, shard)
    os.utime(shard, ns=(0, 0))
    assert not is_index_of(index, shard)
    assert not is_index_of(None, shard)


def test_a_broken_index_is_none(tmp_path: Path) -> None:
    path = tmp_path / "i.json"
    assert read_index(path) is None
    for text in ("", "[]", "{}", '{"version": 2}', '{"version": 1, "images": [[1]], "others": {}}'):
        path.write_text(text)
        assert read_index(path) is None


def test_an_index_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not write_index(tmp_path / "file" / "i.json", TarIndex(0, 0, (), {}))
