from __future__ import annotations

import pytest

from signs_dist.data.inspection.spelling import spelled_alike


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cat", "cats", "dog"], [("cat", "cats")]),
        (["red fox", "red_fox", "Red-Fox"], [("Red-Fox", "red fox", "red_fox")]),
        (["crème", "creme"], [("creme", "crème")]),
        (["か", "が"], []),  # other letters, and no accent
        (["1", "10", "class a", "class b", "s", "-"], []),
    ],
)
def test_names_that_differ_in_spelling_only(names: list[str], expected: list[tuple[str, ...]]) -> None:
    assert spelled_alike(names) == expected
