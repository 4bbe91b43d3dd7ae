from __future__ import annotations

from array import array

import pytest

from signs_dist.data.image_blocks import ImageBlocks


@pytest.mark.parametrize(
    "paths",
    [
        ["a/1", "b/0", "b/1"],
        ["0.jpg", "a/1.jpg", "z.jpg"],
        ["a-b/1", "a.jpg", "a/1", "a/b/0", "a/c", "a0"],  # "-" and "." sort before "/", 0 after it
        ["a/0", "a/b/c/1", "a/b0", "a/z"],
        ["a/é", "a/\udcff", "a/\uffff"],
        ["0"],
        [],
    ],
)
def test_the_order_is_that_of_whole_paths(paths: list[str]) -> None:
    of_folder: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        of_folder.setdefault(folder, []).append(name)
    blocks = ImageBlocks()
    stamp_of = {path: number for number, path in enumerate(paths)}
    for folder, names in reversed(of_folder.items()):
        before = f"{folder}/" if folder else ""
        stamps = array("q", (part for name in sorted(names) for part in (stamp_of[before + name], 1, 2)))
        blocks.add(folder, sorted(names), stamps)
    joined = blocks.joined()
    assert joined.images == sorted(paths)
    assert [joined.folders[number] for number in joined.folder_of] == [
        path.rpartition("/")[0] for path in sorted(paths)
    ]
    assert joined.stamps is not None
    assert joined.stamps.tolist() == [[stamp_of[path], 1, 2] for path in sorted(paths)]


def test_without_stamps() -> None:
    blocks = ImageBlocks()
    blocks.add("a", ["0", "1"])
    blocks.add("b", [])
    joined = blocks.joined()
    assert (joined.images, joined.folders, joined.stamps) == (("a/0", "a/1"), ("a",), None)
