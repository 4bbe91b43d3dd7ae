"""Numbers in words."""

from __future__ import annotations

import pytest

from signs_dist.console.wording import duration, percent


@pytest.mark.parametrize(
    ("share", "text"), [(0.98148, "98.1 %"), (0.0, "0.0 %"), (1.0, "100.0 %"), (float("nan"), "-")]
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.21, "0.2 s"),
        (9.96, "10 s"),
        (12.4, "12 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7380, "2 h 03 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
