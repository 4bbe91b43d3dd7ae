from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from signs_dist.data.images import BadImageError
from signs_dist.data.shards import reading
from signs_dist.data.shards.reading import ShardReader
from signs_dist.data.shards.tar_index import scan
from signs_dist.errors import UserError
from tests.data.shards.tars import photo, samples, write_tar


def make(folder: Path, num_shards: int = 2) -> ShardReader:
    names = [f"s-{number}.tar" for number in range(num_shards)]
    for number, name in enumerate(names):
        write_tar(folder / name, samples((f"cat/{number}a", number), (f"cat/{number}b", number), first=2 * number))
    return ShardReader(folder, names, [scan(folder / name) for name in names])


def num_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_images_are_read_by_their_paths(tmp_path: Path) -> None:
    reader = make(tmp_path)
    assert reader.read("s-1.tar/cat/1b.png") == photo((3, 1, 7))
    assert reader.read("s-0.tar/cat/0a.png") == photo((0, 0, 7))
    assert reader.stamp("s-0.tar/cat/0a.png")[0] == len(photo((0, 0, 7)))
    assert reader.stamp("s-0.tar/cat/0a.png") != reader.stamp("s-0.tar/cat/0b.png")


@pytest.mark.parametrize("most_open", [0, 1, 128])
def test_threads_read_at_once_through_any_number_of_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_open: int
) -> None:
    monkeypatch.setattr(reading, "MOST_OPEN", most_open)
    reader = make(tmp_path, num_shards=5)
    paths = [f"s-{number}.tar/cat/{number}{letter}.png" for number in range(5) for letter in "ab"] * 20
    expected = [photo((position % 10, position % 10 // 2, 7)) for position in range(200)]
    before = num_descriptors()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reader.read, paths)) == expected
    assert num_descriptors() - before == min(most_open, 5)
    del reader
    assert num_descriptors() == before


def test_it_is_pickled_without_its_descriptors(tmp_path: Path) -> None:
    reader = make(tmp_path)
    first = reader.read("s-1.tar/cat/1b.png")
    copy = pickle.loads(pickle.dumps(reader))  # noqa: S301
    assert copy.read("s-1.tar/cat/1b.png") == first
    assert len(pickle.dumps(reader)) < 2000


def test_a_fork_opens_its_own_descriptors(tmp_path: Path) -> None:
    reader = make(tmp_path)
    expected = reader.read("s-0.tar/cat/0a.png")
    child = os.fork()
    if child == 0:
        os._exit(0 if reader.read("s-0.tar/cat/0a.png") == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert reader.read("s-0.tar/cat/0a.png") == expected


def test_a_shard_that_has_changed_is_refused(tmp_path: Path) -> None:
    reader = make(tmp_path)
    os.utime(tmp_path / "s-0.tar", ns=(0, 0))
    with pytest.raises(UserError, match=r"s-0\.tar has changed since its images were listed: repeat the command"):
        reader.read("s-0.tar/cat/0a.png")


def test_a_shard_that_is_gone_or_ends_is_a_bad_image(tmp_path: Path) -> None:
    reader = make(tmp_path)
    (tmp_path / "s-0.tar").unlink()
    with pytest.raises(BadImageError, match=r"s-0\.tar/cat/0a\.png: no such file or directory"):
        reader.read("s-0.tar/cat/0a.png")
    reader.read("s-1.tar/cat/1a.png")
    os.truncate(tmp_path / "s-1.tar", 700)
    with pytest.raises(BadImageError, match=r"s-1\.tar/cat/1b\.png: the shard ends within it"):
        reader.read("s-1.tar/cat/1b.png")
