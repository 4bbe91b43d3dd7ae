"""Which settings are paths of a machine, and what is told of them."""

from __future__ import annotations

import pytest

from signs_dist.exporting.machine_paths import is_machine_path, names_of_paths, paths_in


@pytest.mark.parametrize(
    ("value", "is_path"),
    [
        ("/home/ada/w.pth", True),
        ("~/w.pth", True),
        ("w.pth", False),
        ("weights/w.pth", False),
        (3, False),
        (None, False),
    ],
)
def test_absolute_paths_are_of_a_machine(value: object, is_path: bool) -> None:
    assert is_machine_path(value) is is_path


def test_of_a_path_its_last_name_is_told() -> None:
    settings = {"table": "/home/ada/t.csv", "more": ["~/x/y", 3, {"deep": "/a/b"}], "width": 8, "kind": "wide"}
    told = {"table": "t.csv", "more": ["y", 3, {"deep": "b"}], "width": 8, "kind": "wide"}
    assert names_of_paths(settings) == told
    assert list(paths_in(settings)) == ["/home/ada/t.csv", "~/x/y", "/a/b"]
    assert list(paths_in(told)) == []
