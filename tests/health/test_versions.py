"""Versions that do not belong together, and a rank with other ones, by name."""

from __future__ import annotations

import pytest

from signs_dist.health.finding import places_of
from signs_dist.health.versions import find_bad_pairs, judge, numbers, read_versions

GOOD = {"signs_dist": "1.0", "Python": "3.12.1", "torch": "2.9.1+cu128", "torchvision": "0.24.1", "numpy": "2.1.0"}


def test_versions_of_this_process() -> None:
    found = read_versions()
    assert {"signs_dist", "Python", "torch", "numpy"} <= found.keys()
    assert find_bad_pairs(found) == []


@pytest.mark.parametrize(("text", "expected"), [("2.9.1+cu128", (2, 9, 1)), ("580.65.06", (580, 65, 6)), ("none", ())])
def test_numbers(text: str, expected: tuple[int, ...]) -> None:
    assert numbers(text) == expected


@pytest.mark.parametrize(
    ("changes", "driver", "told", "mend"),
    [
        ({"torch": "2.2.0", "torchvision": "0.17.0"}, "", "torch 2.2.0 was built for numpy 1", 'pip install "numpy<2"'),
        ({"torchvision": "0.23.0"}, "", "torchvision 0.23.0 belongs to torch 2.8, not to 2.9.1", "torchvision==0.24.*"),
        (
            {"Python": "3.14.0", "torch": "2.8.0", "torchvision": "0.23.0"},
            "",
            "Python 3.14.0 needs torch 2.9",
            "torch>=2.9",
        ),
        ({"CUDA": "12.8"}, "470.57.02", "the driver 470.57.02 is older than 525.60", "a driver from 525.60 on"),
    ],
)
def test_pairs_that_do_not_belong_together(changes: dict[str, str], driver: str, told: str, mend: str) -> None:
    ((what, way_out),) = find_bad_pairs(GOOD | changes, driver)
    assert told in what
    assert mend in way_out
    (finding,) = judge({0: GOOD | changes}, places_of({0: "n1"}), driver)
    assert finding.status == "fail"


@pytest.mark.parametrize(
    "changes", [{}, {"CUDA": "12.8"}, {"numpy": ""}, {"torchvision": "1.0"}, {"torch": "3.0", "torchvision": "0.40"}]
)
def test_pairs_about_which_nothing_is_known(changes: dict[str, str]) -> None:
    assert find_bad_pairs(GOOD | changes, "580.65.06") == []


def test_a_node_with_another_torch_is_named() -> None:
    places = places_of({0: "n1", 1: "n1", 2: "n2"})
    other = GOOD | {"torch": "2.8.0", "torchvision": "0.23.0"}
    found = judge({0: GOOD, 1: GOOD, 2: other}, places)
    assert [(each.status, each.measured) for each in found] == [
        ("fail", "rank 2 on n2 has torch 2.8.0; the others have 2.9.1+cu128"),
        ("fail", "rank 2 on n2 has torchvision 0.23.0; the others have 0.24.1"),
    ]


def test_equal_versions() -> None:
    (finding,) = judge({0: GOOD, 1: GOOD}, places_of({0: "n1", 1: "n2"}))
    assert finding.status == "ok"
    assert "torch 2.9.1+cu128" in finding.measured
    assert finding.measured.endswith("on all 2 ranks")
