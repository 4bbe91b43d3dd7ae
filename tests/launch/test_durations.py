"""Times as SLURM takes and writes them."""

from __future__ import annotations

import pytest

from launch.durations import describe_minutes, parse_duration, parse_minutes


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("30", 30),
        ("4:00:00", 240),
        ("4:00", 4),
        ("1:30", 2),  # rounded up
        ("1-0", 1440),
        ("2-12", 3600),
        ("1-1:30", 1530),
        ("1-01:30:30", 1531),
    ],
)
def test_times(text: str, minutes: int) -> None:
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "0", "0:30", "4h", "-5", "1:2:3:4", "١", "1 hour"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"time="):
        parse_minutes(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("4:00:00", "4 h"),
        ("90", "1 h 30 min"),
        ("1-12", "36 h"),
        ("4:00", "4 min (SLURM reads 4:00 as minutes:seconds; as hours it is 4:00:00)"),
    ],
)
def test_a_time_limit_in_words(text: str, words: str) -> None:
    assert describe_minutes(text) == words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("59:30", 3570), ("1:00:00", 3600), ("1-02:03:04", 93784), ("UNLIMITED", None), ("INVALID", None), ("", None)],
)
def test_the_time_left(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds
