"""The contents of a split's photos as one digest, kept where the listing is kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from signs_dist.data import contents
from signs_dist.data.contents import contents_sha256
from signs_dist.data.folder import ImageIndex, index_split
from signs_dist.data.kept_listing import KeptListings
from signs_dist.errors import UserError
from tests.sets import write_colour_set


def digest(index: ImageIndex) -> str:
    return contents_sha256(index, num_threads=2, report=lambda what, done, total: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_colour_set(tmp_path / "colours", counts={"train": 3, "val": 2})


def rewrite(path: Path) -> None:
    """Change one bit, and keep size and times."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def rename(path: Path) -> None:
    path.rename(path.with_name(path.name.replace(".", "x.")))


@pytest.mark.parametrize("change", [rewrite, rename, Path.unlink])
def test_a_change_of_a_photo_is_seen(root: Path, change: Callable[[Path], object]) -> None:
    before = digest(index_split(root, "train"))
    assert digest(index_split(root, "train")) == before
    change(sorted((root / "train_signs").iterdir())[4])
    assert digest(index_split(root, "train")) != before


def test_many_photos_are_asked_for_in_turn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_split(root, "train")
    expected, told = digest(index), []
    monkeypatch.setattr(contents, "_AT_ONCE", 2)
    found = contents_sha256(index, num_threads=1, report=lambda *what: told.append(what))
    assert found == expected
    assert told[:2] == [("reading train photos", 2, len(index)), ("reading train photos", 4, len(index))]
    assert told[-1] == ("reading train photos", len(index), len(index))


def test_photos_of_a_kept_listing_are_read_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    hashed = contents.file_sha256
    monkeypatch.setattr(contents, "file_sha256", lambda path: (read.append(path), hashed(path))[1])

    def look() -> str:
        return digest(index_split(root, "train", keep=KeptListings(tmp_path / "cache", many_files=1)))

    before = look()
    num_photos = len(read)
    assert look() == before == digest(index_split(root, "train"))
    assert len(read) == 2 * num_photos  # once for the kept listing, once for the other
    rewrite(sorted((root / "train_signs").iterdir())[4])  # the time of its change cannot be set back
    assert look() != before


@pytest.mark.parametrize("damage", [None, "", "torn", f"{'0' * 64} {'0' * 64}"])
def test_photos_are_read_again_where_something_has_changed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str | None
) -> None:
    read: list[Path] = []
    hashed = contents.file_sha256
    monkeypatch.setattr(contents, "file_sha256", lambda path: (read.append(path), hashed(path))[1])
    cache = tmp_path / "cache"

    def look() -> tuple[str, int]:
        read.clear()
        index = index_split(root, "train")
        found = contents_sha256(index, num_threads=2, report=lambda what, done, total: None, cache=cache)
        return found, len(read)

    expected = digest(index_split(root, "train"))
    assert look() == (expected, 9)
    assert look() == (expected, 0)
    (kept,) = (cache / "contents").iterdir()
    if damage is not None:
        kept.write_text(damage)
        assert look() == (expected, 9)
    rewrite(sorted((root / "train_signs").iterdir())[4])  # the time of its change cannot be set back
    changed, num_read = look()
    assert (changed == expected, num_read) == (False, 9)
    assert [path.name for path in (cache / "contents").iterdir()] == [kept.name]


def test_a_cache_that_cannot_be_written_keeps_nothing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    index = index_split(root, "train")
    found = contents_sha256(index, num_threads=2, report=lambda what, done, total: None, cache=tmp_path / "cache")
    assert found == digest(index)


def test_a_photo_that_is_gone_is_named(root: Path) -> None:
    index = index_split(root, "train")
    gone = sorted((root / "train_signs").iterdir())[0]
    gone.unlink()
    with pytest.raises(UserError, match=f"cannot read .*{gone.name}: No such file"):
        digest(index)
