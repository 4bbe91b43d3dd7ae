from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from signs_dist.data import folder_state, kept_listing
from signs_dist.data.kept_listing import KeptListings, digests_now, is_unchanged, read_listing, remember
from signs_dist.data.listing import Listing, list_images
from signs_dist.data.paths import Paths
from signs_dist.files import NO_SPACE
from tests.data.photo_files import jpeg, write_files
from tests.processes import environment

NUM_FILES = 300


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    files = {f"{name}/{number:03}.jpg": b"photo" for name in ("cat", "dog", "eel") for number in range(NUM_FILES // 3)}
    return write_files(tmp_path / "photos", files | {"cat/notes.txt": b"", "cat/photo": jpeg(1), "empty/.hidden": b""})


@pytest.fixture
def keep(tmp_path: Path) -> KeptListings:
    return KeptListings(tmp_path / "cache", many_files=100)


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are listed anew."""
    walked: list[Path] = []

    def counted(root: Path, **more: Any) -> Listing:
        found = list_images(root, **more)  # raises where there are too many
        walked.append(root)
        return found

    monkeypatch.setattr(kept_listing, "list_images", counted)
    return walked


def told(listing: Listing) -> dict[str, Any]:
    assert listing.stamps is not None
    return {
        "images": list(listing.images),
        "passed_over": listing.passed_over,
        "num_others": dict(listing.num_others),
        "folders": listing.folders,
        "folder_of": listing.folder_of.tolist(),
        "stamps": listing.stamps.tolist(),
        "digests": dict(listing.digests),
        "identities": dict(listing.identities),
    }


def test_a_kept_listing_is_that_of_the_folder(photos: Path, keep: KeptListings, walks: list[Path]) -> None:
    expected = told(list_images(photos, with_stamps=True))
    first = keep.listing(photos)
    assert first.images.origin is not None
    assert told(first) == expected
    assert told(keep.listing(photos)) == expected
    assert walks == [photos]
    first.stamps[0] = 0  # type: ignore[index]  # an array that may be written to, and the file stays as it is
    assert told(keep.listing(photos)) == expected


def test_few_files_leave_nothing_behind(photos: Path, keep: KeptListings) -> None:
    listing = KeptListings(keep.cache).listing(photos)
    assert len(listing.images) == NUM_FILES + 1
    assert listing.images.origin is None
    assert not keep.cache.exists()


def test_many_files_without_an_image_leave_no_listing_behind(keep: KeptListings, tmp_path: Path) -> None:
    texts = write_files(tmp_path / "texts", {f"{number:03}.txt": b"" for number in range(101)})
    listing = keep.listing(texts)
    assert (len(listing.images), listing.num_others) == (0, {"": 101})
    assert not list(keep.cache.glob("listings/*.listing"))


CHANGES: dict[str, Callable[[Path], object]] = {
    "added": lambda folder: (folder / "new.jpg").write_bytes(b""),
    "added in a new folder": lambda folder: write_files(folder, {"more/new.jpg": b""}),
    "removed": lambda folder: (folder / "000.jpg").unlink(),
    "renamed": lambda folder: (folder / "000.jpg").rename(folder / "a.jpg"),
    "grown": lambda folder: (folder / "000.jpg").write_bytes(b"photo "),
    "edited": lambda folder: (folder / "000.jpg").write_bytes(b"phota"),
    "no image any more": lambda folder: (folder.parent / "cat/photo").write_bytes(b"words"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_seen(
    photos: Path, keep: KeptListings, walks: list[Path], change: Callable[[Path], object]
) -> None:
    before = told(keep.listing(photos))
    change(photos / "dog")
    now = told(keep.listing(photos))
    assert now == told(list_images(photos, with_stamps=True)) != before
    assert len(walks) == 2
    keep.listing(photos)
    assert len(walks) == 2


def test_where_links_lead_is_looked_at(photos: Path, keep: KeptListings, tmp_path: Path) -> None:
    write_files(tmp_path / "elsewhere", {"0.jpg": b""})
    (photos / "link").symlink_to(tmp_path / "elsewhere")
    listing = keep.listing(photos)
    assert "link/0.jpg" in listing.images
    assert is_unchanged(photos, listing)
    (photos / "eel").rename(tmp_path / "aside")
    shutil.copytree(tmp_path / "aside", photos / "eel", copy_function=os.link)  # the same files in another folder
    assert not is_unchanged(photos, listing)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another version", "a folder"])
def test_a_broken_file_is_made_again(photos: Path, keep: KeptListings, walks: list[Path], damage: str) -> None:
    expected = told(keep.listing(photos))
    (file,) = keep.cache.glob("listings/*.listing")
    content = file.read_bytes()
    file.unlink()  # not in place: it is mapped
    if damage == "a folder":
        file.mkdir()
    else:
        broken = {
            "cut": content[:-1],
            "flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
            "empty": b"",
            "another version": content.replace(b'"version": 1', b'"version": 0', 1),
        }
        file.write_bytes(broken[damage])
    assert told(keep.listing(photos)) == expected
    assert len(walks) == 2


def test_without_room_the_listing_is_in_memory(
    photos: Path, keep: KeptListings, walks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(NO_SPACE[0], "No space left on device", str(path))

    monkeypatch.setattr(kept_listing, "written_aside", full)
    assert told(keep.listing(photos)) == told(list_images(photos, with_stamps=True))
    assert keep.listing(photos).images.origin is None
    assert len(walks) == 2
    assert not list(keep.cache.glob("listings/*.listing"))


def test_where_nothing_can_be_written_a_kept_listing_is_checked_and_used(
    photos: Path, keep: KeptListings, walks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep.listing(photos)

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(kept_listing, "locked", refuse)
    monkeypatch.setattr(kept_listing, "written_aside", refuse)
    assert keep.listing(photos).images.origin is not None
    (photos / "dog/new.jpg").touch()
    assert "dog/new.jpg" in keep.listing(photos).images
    assert len(walks) == 2


def test_a_cache_below_a_file(photos: Path, keep: KeptListings) -> None:
    keep.cache.write_bytes(b"")
    assert len(keep.listing(photos).images) == NUM_FILES + 1


def test_what_was_checked_since_a_run_began_is_not_checked_again(
    photos: Path, keep: KeptListings, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[Path] = []
    monkeypatch.setattr(kept_listing, "is_unchanged", lambda folder, _: not checks.append(folder))
    began = time.monotonic()
    run = KeptListings(keep.cache, since=began, many_files=100)
    later = KeptListings(keep.cache, many_files=100)
    run.listing(photos)
    run.listing(photos)  # another process of the run
    assert not checks
    later.listing(photos)
    assert len(checks) == 1
    run.listing(photos)
    assert len(checks) == 1
    monkeypatch.setattr(kept_listing, "_boot_id", lambda: "another machine")
    run.listing(photos)
    assert len(checks) == 2


def test_processes_that_begin_together_list_once(photos: Path, keep: KeptListings, tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from signs_dist.data import kept_listing, listing
walked = []
def counted(root, **more):
    found = listing.list_images(root, **more)
    walked.append(root)
    time.sleep(0.2)
    return found
kept_listing.list_images = counted
keep = kept_listing.KeptListings(Path(sys.argv[1]), float(sys.argv[3]), many_files=100)
found = keep.listing(Path(sys.argv[2]))
print(len(walked), len(found.images), found.images.origin is not None)
"""
    command = [sys.executable, "-c", program, str(keep.cache), str(photos), repr(time.monotonic())]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) for _ in range(3)]
    lines = sorted(process.communicate(timeout=120)[0].strip() for process in running)
    assert lines == [f"{number} {NUM_FILES + 1} True" for number in (0, 0, 1)]
    assert sorted(path.suffix for path in (keep.cache / "listings").iterdir()) == [".checked", ".listing", ".lock"]


def test_a_file_that_is_added_while_the_folder_is_listed(
    photos: Path, keep: KeptListings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest of a folder is of the names that were listed, so that the next start sees the file."""
    read = folder_state.read_folder

    def and_add(folder: Path, **more: bool) -> Any:
        found = read(folder, **more)
        (photos / "dog/late.jpg").touch()
        return found

    monkeypatch.setattr(folder_state, "read_folder", and_add)
    keep.listing(photos)
    monkeypatch.undo()
    now = keep.listing(photos)
    assert "dog/late.jpg" in now.images
    assert told(now) == told(list_images(photos, with_stamps=True))


def test_an_old_listing_of_a_changed_folder_is_removed(photos: Path, keep: KeptListings) -> None:
    first = keep.listing(photos)
    remember(first.images, b"", lambda: "text")
    assert first.images.origin is not None
    (photos / "dog/new.jpg").touch()
    keep.listing(photos)
    assert first.images.origin[0].exists()  # a job may map it
    for path in (keep.cache / "listings").iterdir():
        os.utime(path, (0, 0))
    (photos / "dog/newer.jpg").touch()
    (last,) = {keep.listing(photos).images.origin}
    assert last is not None
    assert list((keep.cache / "listings").glob("*.listing")) == [last[0]]
    assert len(list((keep.cache / "listings").iterdir())) == 3


def test_many_files_are_looked_at_by_several_processes(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [str(photos), *sorted(str(path) for path in photos.iterdir()), str(photos / "nowhere")]
    alone = digests_now(folders, NUM_FILES)
    assert alone[-1] == folder_state.UNREADABLE
    monkeypatch.setattr(kept_listing, "FILES_PER_CHECKER", 100)
    monkeypatch.setattr(kept_listing, "read_usable_cores", lambda _: 2)
    shares: list[int] = []
    by_process = kept_listing._digests_by_process
    monkeypatch.setattr(
        kept_listing, "_digests_by_process", lambda share: (shares.append(len(share)), by_process(share))[1]
    )
    assert digests_now(folders, NUM_FILES) == alone
    assert shares == [3]
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert digests_now(folders, NUM_FILES) == alone


def test_a_text_is_found_once_for_a_listing(photos: Path, keep: KeptListings) -> None:
    calls: list[str] = []

    def find() -> str:
        calls.append("found")
        return f"text{len(calls)}"

    paths = keep.listing(photos).images.below("train/")
    assert [remember(paths, b"facts", find) for _ in range(3)] == ["text1"] * 3
    assert remember(keep.listing(photos).images.below("train/"), b"facts", find) == "text1"
    assert remember(paths, b"other facts", find) == "text2"
    assert remember(paths.below("x/"), b"facts", find) == "text3"
    for file in (keep.cache / "listings").iterdir():
        if file.suffix not in (".listing", ".lock", ".checked"):
            file.write_text("text1 0123")
    assert remember(paths, b"facts", find) == "text4"
    (photos / "dog/new.jpg").touch()
    assert remember(keep.listing(photos).images.below("train/"), b"facts", find) == "text5"
    assert remember(Paths.of(paths), b"facts", find) == "text4"
    assert remember(Paths.of(list(paths)), b"facts", find) == "text6"
    assert remember(tuple(paths), b"facts", find) == "text7"


def test_facts_that_are_not_of_a_listing(tmp_path: Path) -> None:
    for text in (b"", b"[]\n", b"{}\n", json.dumps({"version": 1, "num_bytes": 0, "digest": "x"}).encode() + b"\n"):
        (tmp_path / "file").write_bytes(text)
        assert read_listing(tmp_path / "file") is None
    assert read_listing(tmp_path / "nowhere") is None
