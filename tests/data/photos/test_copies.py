from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.data.photos import copies
from signs_dist.data.photos.copies import Copies, find_copies
from signs_dist.data.photos.sources import list_source
from tests.data.photo_files import write_files, write_zip

FILES = {
    "cat/1.jpg": b"one photo",
    "cat/2.jpg": b"one photo",
    "dog/3.jpg": b"one photo",
    "cat/4.jpg": b"two photo",  # of the same size
    "dog/5.jpg": b"another",
    "dog/6.png": b"another",
    "dog/7.jpg": b"",
    "dog/8.jpg": b"",
}
COPIES = (("cat/1.jpg", "cat/2.jpg", "dog/3.jpg"), ("dog/5.jpg", "dog/6.png"))


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_files_with_the_same_content_are_found(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write = write_zip if kind == "zip" else write_files
    source = write(tmp_path / "photos", FILES)
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(copies, "_PROGRESS_EVERY", 1)
    files = list_source(source)
    assert find_copies(source, files, lambda *row: told.append(row)) == COPIES
    assert find_copies(source, files[::-1]) == COPIES
    # A zip has the checksums of its members: the photo that only has its size in common with others is not read.
    assert told[-1] == ((5, 5) if kind == "zip" else (6, 6))


def test_only_files_of_one_size_are_read(tmp_path: Path) -> None:
    source = write_files(tmp_path / "photos", {f"cat/{number}.jpg": b"x" * (number + 1) for number in range(9)})
    assert find_copies(source, list_source(source), lambda *_: pytest.fail("a file was read")) == ()


def test_a_file_that_cannot_be_read_is_no_copy(tmp_path: Path) -> None:
    source = write_files(tmp_path / "photos", FILES)
    files = list_source(source)
    (source / "cat/2.jpg").unlink()
    (source / "dog/6.png").unlink()
    expected: Copies = (("cat/1.jpg", "dog/3.jpg"),)
    assert find_copies(source, files) == expected


def test_a_link_to_a_photo_is_its_copy(tmp_path: Path) -> None:
    source = write_files(tmp_path / "photos", {"cat/1.jpg": b"photo"})
    (source / "cat/2.jpg").symlink_to("1.jpg")
    assert find_copies(source, list_source(source)) == (("cat/1.jpg", "cat/2.jpg"),)


def test_a_tar_beside_photos_is_not_looked_into(tmp_path: Path) -> None:
    """As the images of a table have it beside them, from which they were unpacked."""
    source = write_files(tmp_path / "photos", FILES | {"train.tar": b"", "test.tar.gz": b""})
    assert find_copies(source, list_source(source)) == COPIES
