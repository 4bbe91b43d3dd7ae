"""A pack that several users share: whose rights count, and what is told."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from tests.data.test_packed import cache as cache
from tests.data.test_packed import folders, pack
from tests.data.test_packed import photos as photos
from tests.sets import write_colour_set
from tests.users import NOBODY, acting_as, folder_for_all, needs_root


@pytest.fixture
def common() -> Iterator[Path]:
    """A folder that all users may enter, with photos that all may read."""
    with folder_for_all() as folder:
        write_colour_set(folder / "photos", counts={"train": 4, "val": 2})
        yield folder


@needs_root
def test_a_whole_pack_of_another_user_is_read(common: Path) -> None:
    pack(common / "photos", common / "cache")
    (common / "cache").chmod(0o555)
    for lock in (common / "cache").glob("*.lock"):
        lock.chmod(0o644)
    before = sorted((common / "cache").iterdir())
    with acting_as(NOBODY):
        split, num_decoded = pack(common / "photos", common / "cache")
    assert (len(split.pixels), num_decoded) == (12, 0)
    assert sorted((common / "cache").iterdir()) == before


@needs_root
@pytest.mark.parametrize(
    ("mode_of_cache", "mode_of_pack", "told"),
    [
        (0o755, None, "Permission denied, and {cache} belongs to root"),  # nothing is packed, and nothing can be
        (0o755, 0o700, "Permission denied, and {pack} belongs to root"),  # packed under umask 077
        (0o1777, 0o700, "Operation not permitted, and {pack} belongs to root"),
    ],
)
def test_a_cache_of_another_user_that_cannot_be_used_is_told(
    common: Path, mode_of_cache: int, mode_of_pack: int | None, told: str
) -> None:
    cache = common / "cache"
    cache.mkdir()
    if mode_of_pack is not None:
        pack(common / "photos", cache)
        folders(cache)[0].chmod(mode_of_pack)
        for lock in cache.glob("*.lock"):
            lock.chmod(0o666)
    cache.chmod(mode_of_cache)
    with acting_as(NOBODY), pytest.raises(UserError) as caught:
        pack(common / "photos", cache)
    place = folders(cache)[0] if mode_of_pack is not None else ""
    assert told.format(cache=cache, pack=place) in str(caught.value)
    assert str(caught.value).endswith("Choose a path that you may write to. Type: data.cache=FOLDER")
    assert len(folders(cache)) == (mode_of_pack is not None)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o755), (0o077, 0o700), (0o002, 0o775)])
def test_the_umask_decides_who_may_read_a_pack(photos: Path, cache: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        pack(photos, cache)
    finally:
        os.umask(before)
    (folder,) = folders(cache)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert modes == {folder.name: mode, "pixels.npy": mode & 0o666, "packed.json": mode & 0o666}
