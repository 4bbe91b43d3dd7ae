from __future__ import annotations

import pickle
from pathlib import Path

import numpy
import pytest

from signs_dist.data.kept_listing import KeptListings
from signs_dist.data.paths import Paths
from signs_dist.errors import UserError
from tests.data.photo_files import write_files

TEXTS = ("a/0.jpg", "a/ü.jpg", "a/\udcff.jpg", "b/1.jpg")  # the third is no UTF-8 on disk


def pickled_and_back(paths: Paths) -> Paths:
    copied: Paths = pickle.loads(pickle.dumps(paths))  # noqa: S301
    return copied


def test_a_block_is_the_texts() -> None:
    paths = Paths.of(TEXTS)
    assert paths == TEXTS
    assert paths == Paths.of(list(TEXTS))
    assert paths != TEXTS[:3]
    assert paths != (*TEXTS[:3], "b/2.jpg")
    assert paths != "a"
    assert tuple(paths) == TEXTS
    assert [paths[number] for number in (0, -1, numpy.int64(2))] == [TEXTS[0], TEXTS[3], TEXTS[2]]
    assert paths[1:3] == TEXTS[1:3]
    assert TEXTS[2] in paths
    assert Paths.of(paths) is paths
    assert Paths.of([]) == ()


def test_beyond_the_end() -> None:
    for number in (4, -5):
        with pytest.raises(IndexError, match=f"path {number} of 4"):
            Paths.of(TEXTS)[number]


def test_many_are_read_in_order() -> None:
    texts = [f"{number}.jpg" for number in range(25_001)]
    assert list(Paths.of(texts)) == texts


def test_below_a_folder() -> None:
    paths = Paths.of(TEXTS).below("b/").below("c/")
    assert paths == tuple(f"c/b/{text}" for text in TEXTS)
    assert paths[0] == "c/b/a/0.jpg"


def test_the_text_of_a_block_is_short() -> None:
    assert repr(Paths.of("abcdefg")) == "Paths('a', 'b', 'c', 'd', 'e', … 7 in all)"
    assert repr(Paths.of("a")) == "Paths('a')"


def test_it_is_pickled() -> None:
    assert pickled_and_back(Paths.of(TEXTS).below("x/")) == tuple(f"x/{text}" for text in TEXTS)


def test_kept_paths_are_mapped_again_in_another_process(tmp_path: Path) -> None:
    write_files(tmp_path / "photos", {f"cat/{number:04}.jpg": b"" for number in range(1000)})
    listing = KeptListings(tmp_path / "cache", many_files=10).listing(tmp_path / "photos")
    paths = listing.images.below("train/")
    pickled = pickle.dumps(paths)
    assert len(pickled) < 1000  # the name of the file, not the paths
    again = pickle.loads(pickled)  # noqa: S301
    assert again == paths
    assert again[7] == "train/cat/0007.jpg"
    assert again.origin == listing.images.origin is not None
    assert listing.images.origin is not None
    file = listing.images.origin[0]
    file.rename(tmp_path / "mapped")
    file.write_bytes(b"damaged")
    with pytest.raises(UserError, match="was removed or damaged while a run used it"):
        pickle.loads(pickled)  # noqa: S301
    file.unlink()
    assert pickled_and_back(paths) == paths  # mapped still, so that it is copied
