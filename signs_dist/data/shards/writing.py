"""Write the images of a data set's folder into shards, in the order in which training reads them."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from signs_dist.data.folder import ImageIndex, index_data_set
from signs_dist.data.shards.tar_index import INDEX_SUFFIX, scan, split_name, write_index
from signs_dist.files import explained, flush_to_disk, write_text

MEGABYTE = 10**6
_OVERHEAD_BYTES = 10 * 512
"""What a sample takes at most beside its image: two headers of three blocks, the block of its .cls, the tar's end."""


def pack_into_shards(folder: Path, *, shard_megabytes: int, report: Callable[[str, int, int], None]) -> list[Path]:
    """Replace the images of a data set by shards `train-000000.tar`, …, with their indexes and classes.txt.

    The shards hold the bytes of the files, in the order of the folder's index, so that training gives the same weights
    from both. A sample is KEY.jpg and KEY.cls; KEY is the path below the split without the suffix, its points replaced.

    Args:
        folder: the data set, which is changed.
        shard_megabytes: a shard is begun when the one before would grow beyond so many million bytes.
        report: called with (what is done, images done, images in all).

    Returns:
        The shards.

    Raises:
        UserError: the folder is no data set, or the disk is full.
    """
    splits = index_data_set(folder)
    num_images = sum(len(index) for index in splits.values())
    num_done = 0

    def count() -> None:
        nonlocal num_done
        num_done += 1
        report("writing shards", num_done, num_images)

    try:
        shards = [
            shard for index in splits.values() for shard in _write_split(index, shard_megabytes * MEGABYTE, count)
        ]
        _write_classes(folder, splits["train"].classes)
        for shard in shards:
            write_index(shard.with_name(f"{shard.name}{INDEX_SUFFIX}"), scan(shard))
        for top in {path.partition("/")[0] for index in splits.values() for path in index.paths}:
            shutil.rmtree(folder / top)
    except OSError as error:
        raise explained(error, folder) from error
    return shards


def _write_split(index: ImageIndex, max_bytes: int, count: Callable[[], None]) -> Iterator[Path]:
    keys = _keys(index)
    number = start = 0
    while start < len(index):
        shard = index.root / f"{index.split}-{number:06d}.tar"
        with tarfile.open(shard, "w") as tar:
            first = start
            for position in range(first, len(index)):
                data = (index.root / index.paths[position]).read_bytes()
                if tar.offset + len(data) + _OVERHEAD_BYTES > max_bytes and position > first:
                    break
                suffix = split_name(index.paths[position].rpartition("/")[2])[1].rpartition(".")[2]
                _add(tar, f"{keys[position]}.{suffix}", data)
                _add(tar, f"{keys[position]}.cls", str(int(index.labels[position])).encode())
                count()
                start = position + 1
        flush_to_disk(shard)
        yield shard
        number += 1


def _keys(index: ImageIndex) -> list[str]:
    """A key for each image, all different: a point would end it."""
    keys, used = [], set()
    for path in index.paths:
        key = path.partition("/")[2].rpartition(".")[0].replace(".", "_")
        while key in used:
            key += "_"
        used.add(key)
        keys.append(key)
    return keys


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file without a time and an owner, so that equal images give equal shards."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _write_classes(folder: Path, classes: tuple[str, ...]) -> None:
    """classes.txt; or classes.json, where a name begins or ends with a blank, which a line would lose."""
    if all(name == name.strip() for name in classes):
        write_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    else:
        write_text(folder / "classes.json", json.dumps(classes, ensure_ascii=False) + "\n")
