"""A context as `read_context` gives it, with some values changed."""

from __future__ import annotations

from typing import Any

from signs_dist.environment.context import Context


def context(**changes: Any) -> Context:
    values: dict[str, Any] = {
        "launcher": "python",
        "rank": 0,
        "world_size": 1,
        "usable_cores": 2,
        "num_sharing_cores": 1,
        "num_threads": 2,
        "host": "here",
        "process_id": 1,
        "launcher_pid": None,
        "job": "",
        "is_terminal": False,
        "error_file": None,
        "visible_devices": None,
    }
    return Context(**{**values, **changes})
