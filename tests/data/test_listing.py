from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from PIL import features

from signs_dist.data import listing as listing_module
from signs_dist.data.images import DECODER_FORMATS, IMAGE_SUFFIXES
from signs_dist.data.listing import (
    NEVER_IMAGES,
    PassedOver,
    Tally,
    folders_without_images,
    is_image,
    list_images,
)
from signs_dist.data.litter import LITTER_FILES, LITTER_FOLDERS, LITTER_PARTS, LITTER_PREFIXES, LITTER_SUFFIXES
from signs_dist.data.names import SPLIT_COMPANIONS, SPLIT_WORDS, split_of_folder
from signs_dist.errors import UserError
from tests.data.photo_files import encoded, jpeg, photo, write_files

PAGE = Path(__file__).resolve().parents[2] / "docs" / "your-photos.md"


def refuse_to_read() -> bytes:
    raise AssertionError("opened")


@pytest.mark.parametrize(
    "name", ["0.jpg", "0.JPG", "0.jfif", "0.avif", "0.heic", "a.b.png", "0.txt", "0.json", "0.nef"]
)
def test_a_suffix_that_says_it_all_keeps_a_file_closed(name: str) -> None:
    assert is_image(name, refuse_to_read) == (name not in ("0.txt", "0.json", "0.nef"))


@pytest.mark.parametrize(
    "name",
    [
        *(
            "0",
            "IMG_0001",
            "0.img",
            "0.dat",
            "0.jpg_large",
            "0.jpg!d",
            "0.jpg?w=100",
            "0.jpg.1",
            "0.JPEG ",
            "0.2024-01-01",
        ),
        *(
            "0.jpeg-large",
            "0.image",
            "0.b64",
            "0.jpg%20",
            "photo (1)",
            "0.bin",
            "0.jpgg",
            "0.pngjpg",
            "0.webp_",
            "0.jif",
        ),
    ],
)
def test_other_suffixes_and_none_are_recognised_by_content(name: str, tmp_path: Path) -> None:
    write_files(tmp_path, {name: jpeg(1), f"not {name}": b"hello"})
    listing = list_images(tmp_path)
    assert listing.images == (name,)
    assert listing.passed_over == PassedOver(not_images=Tally(1, (f"not {name}",)))


def test_every_format_without_a_suffix(tmp_path: Path) -> None:
    formats = {name for name in DECODER_FORMATS if name != "AVIF" or features.check("avif")}
    write_files(tmp_path, {name: encoded(photo(1), name) for name in formats})
    assert list_images(tmp_path).images == tuple(sorted(formats))


def test_images_with_known_suffixes_cost_no_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path, {"cat/0.jpg": b"x", "cat/1.jfif": b"x", "cat/labels.txt": b"x"})
    monkeypatch.setattr(listing_module, "read_first_bytes", lambda path: refuse_to_read())
    assert list_images(tmp_path).images == ("cat/0.jpg", "cat/1.jfif")


def test_litter_is_counted_and_named_and_not_read(tmp_path: Path) -> None:
    files = {"cat/0.jpg": b"", "cat/._0.jpg": b"", "cat/@eaDir/0.jpg/SYNOPHOTO_THUMB_XL.jpg": b"", "dog/.DS_Store": b""}
    listing = list_images(
        write_files(tmp_path, files | {"cat/.DS_Store": b"", "cat/notes.txt": b"", "a.nef": b"II*\0"})
    )
    assert listing.images == ("cat/0.jpg",)
    assert listing.passed_over.notes() == [
        "passed over: 4 files and folders of other programs (.DS_Store, ._0.jpg, @eaDir/, …)",
        "passed over: 2 files without a readable image (a.nef, cat/notes.txt)",
    ]
    assert folders_without_images(listing.images, listing.num_others, "") == (["dog"], [])


def test_links_are_followed_once_and_no_loop_is_endless(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    write_files(root, {"cat/0.jpg": b"", "cat/deep/1.jpg": b""})
    write_files(elsewhere, {"2.jpg": b"", "inner/3.jpg": b""})
    for name, target in {
        "cat/more": elsewhere,
        "cat/more_again": elsewhere,
        "cat/shallow": root / "cat/deep",
        "cat/self": Path("self"),
        "cat/root": root,
        "cat/above": tmp_path,
        "cat/gone.jpg": root / "nowhere.jpg",
        "cat/gone": root / "nowhere",
        "cat/4.jpg": elsewhere / "2.jpg",
    }.items():
        (root / name).symlink_to(target)
    (elsewhere / "back").symlink_to(root / "cat")
    (elsewhere / "inner/round").symlink_to(elsewhere)
    listing = list_images(root)
    assert [name.removeprefix("cat/") for name in listing.images] == [
        *("0.jpg", "4.jpg", "deep/1.jpg"),
        "gone.jpg",  # a photo that is missing: reading it is an error
        *("more/2.jpg", "more/inner/3.jpg"),
    ]
    assert listing.passed_over.dead_links == Tally(2, ("cat/gone", "cat/self"))
    assert listing.passed_over.repeated.count == 6


def test_many_links_to_each_other_end(tmp_path: Path) -> None:
    names = [f"d{number}" for number in range(12)]
    write_files(tmp_path, {f"{name}/{name}.jpg": b"" for name in names})
    for name in names:
        for other in names:
            if other != name:
                (tmp_path / name / f"to_{other}").symlink_to(tmp_path / other)
    assert len(list_images(tmp_path).images) == 12


def test_a_folder_is_read_once_in_each_scope(tmp_path: Path) -> None:
    write_files(tmp_path, {"train/cat/0.jpg": b""})
    (tmp_path / "val").mkdir()
    (tmp_path / "val/cat").symlink_to(tmp_path / "train/cat")
    (tmp_path / "train/cat/same").symlink_to(tmp_path / "train/cat")
    listing = list_images(tmp_path, scope=lambda path: path.partition("/")[0])
    assert listing.images == ("train/cat/0.jpg", "val/cat/0.jpg")
    assert list_images(tmp_path).images == ("train/cat/0.jpg",)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    assert list_images(tmp_path).passed_over.not_images == Tally(2, ("device", "pipe"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*nowhere: No such file or directory"):
        list_images(tmp_path / "nowhere")


def test_folders_without_images() -> None:
    num_others = {"": 1, "train": 0, "train/cat": 2, "train/bird": 0, "train/fish": 0, "train/fish/deep": 3}
    found = folders_without_images(["train/cat/0.jpg", "val/cat/0.jpg"], num_others, "train/")
    assert found == (["bird"], ["fish"])


def test_a_tally_has_the_first_of_many() -> None:
    tally = Tally()
    for name in "xcybaca":
        tally = tally.plus(1, [name])
    assert tally == Tally(7, ("a", "b", "c"))
    both = PassedOver(litter=tally).plus(PassedOver(litter=Tally(1, (".x",)), dead_links=Tally(1, ("a.jpg",))))
    assert both.litter == Tally(8, (".x", "a", "b"))
    assert both.below("train/").dead_links == Tally(1, ("train/a.jpg",))
    assert both.below("train/").litter == both.litter


def test_names_with_control_characters_are_escaped_in_notes() -> None:
    assert PassedOver(not_images=Tally(1, ("a\x1b[31m\n",))).notes() == [
        "passed over: 1 file without a readable image (a\\x1b[31m\\n)"
    ]


def listed_on_the_page(row: str) -> set[str]:
    """The names in backticks in the second column of the row of the page's table that begins with `row`."""
    line = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {row} |"))
    return set(re.findall("`([^`]+)`", line.split(" | ")[1]))


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ("photo, by its suffix", IMAGE_SUFFIXES - {".heic", ".heif", ".hif"}),
        ("photo that needs the extra `heic`", {".heic", ".heif", ".hif"}),
        ("file that is never opened", NEVER_IMAGES),
        ("folder of other programs", set(LITTER_FOLDERS)),
        ("file of other programs, by its name", {name.replace("\r", "\\r") for name in LITTER_FILES}),
        ("file or folder of other programs, by its beginning", set(LITTER_PREFIXES)),
        ("file of other programs, by its end", set(LITTER_SUFFIXES)),
        ("file of other programs, by a part", set(LITTER_PARTS)),
        ("split train", set(SPLIT_WORDS["train"])),
        ("split val", set(SPLIT_WORDS["val"])),
        ("split test", set(SPLIT_WORDS["test"])),
        ("word beside a split's", set(SPLIT_COMPANIONS)),
    ],
)
def test_the_table_in_the_docs_is_that_of_the_code(row: str, names: set[str]) -> None:
    assert listed_on_the_page(row) == names


def test_the_splits_of_the_table_are_splits() -> None:
    for split in ("train", "val", "test"):
        assert {split_of_folder(name) for name in listed_on_the_page(f"split {split}")} == {split}
