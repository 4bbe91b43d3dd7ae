"""Numbers in words, for every page and screen."""

from __future__ import annotations

import math


def percent(share: float) -> str:
    """A share as `98.1 %`, or `-` for NaN."""
    return "-" if math.isnan(share) else f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """Seconds as `1.2 s`, `12 s`, `3 min 05 s` or `2 h 03 min`."""
    whole = round(seconds)
    if 0 < seconds < 9.95:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
