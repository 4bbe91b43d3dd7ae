"""Times as SLURM takes and writes them."""

from __future__ import annotations

import re

_TIME = re.compile(
    r"(?:(?P<days>[0-9]+)-)?(?P<first>[0-9]+)(?::(?P<second>[0-9]{1,2}))?(?::(?P<third>[0-9]{1,2}))?", re.ASCII
)


def parse_minutes(text: str) -> int:
    """Minutes of a time as sbatch takes it (sbatch(1), --time), rounded up. Raises ValueError."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"time={text}: type minutes, hours:minutes:seconds or days-hours, such as 4:00:00 or 1-12")
    first, second, third = int(found["first"]), int(found["second"] or 0), int(found["third"] or 0)
    if second >= 60 or third >= 60 or (found["days"] is not None and first >= 24):
        raise ValueError(f"time={text}: after a colon at most 59 minutes or seconds, after days at most 23 hours")
    if found["days"] is not None:
        seconds = int(found["days"]) * 86400 + first * 3600 + second * 60 + third
    elif found["third"] is not None:
        seconds = first * 3600 + second * 60 + third
    else:
        seconds = first * 60 + second
    if seconds < 60:
        raise ValueError(f"time={text}: at least one minute")
    return -(-seconds // 60)


def describe_minutes(text: str) -> str:
    """A time limit in words; for a time such as 4:00, with a hint that SLURM reads minutes and seconds."""
    minutes = parse_minutes(text)
    hours, rest = divmod(minutes, 60)
    parts = [f"{hours:,} h" if hours else "", f"{rest} min" if rest else ""]
    words = " ".join(part for part in parts if part)
    if "-" not in text and text.count(":") == 1:
        words += f" (SLURM reads {text} as minutes:seconds; as hours it is {text}:00)"
    return words


def parse_duration(text: str) -> float | None:
    """Seconds of a time as SLURM writes it, such as `1-02:03:04` or `59:30`; None for UNLIMITED and the like."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip(), re.ASCII)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(group or 0) for group in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
