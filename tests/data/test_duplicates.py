from __future__ import annotations

from signs_dist.data.duplicates import Duplicates, duplicate_lines, find_duplicates


def test_find_duplicates_as_a_table() -> None:
    pictures = {"t/1": ("train", "x"), "t/2": ("train", "y"), "t/3": ("train", "y"), "v/1": ("val", "x")}
    classes = {"t/1": "a", "t/2": "a", "t/3": "b", "v/1": "a"}
    assert find_duplicates(pictures, classes) == Duplicates(
        across=(("t/1", "v/1"),), within=(("t/2", "t/3"),), conflicting=(("t/2", "t/3"),)
    )


def test_each_kind_is_told_once() -> None:
    found = Duplicates(across=(("t/1", "v/1"),), within=(("t/2", "t/3"), ("t/4", "t/5")), conflicting=(("t/2", "t/3"),))
    assert duplicate_lines(found) == [
        "problem: 1 image is in more than one class. Keep the file in the right class:",
        "  t/2 = t/3",
        "warning: 1 image is in more than one split, so the accuracy there is too high:",
        "  t/1 = v/1",
        "1 image is in one split more than once:",
        "  t/4 = t/5",
    ]
    assert duplicate_lines(Duplicates((), ())) == []
