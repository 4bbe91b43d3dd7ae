"""What loader workers need of a machine, before they start."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from signs_dist.data.loader import LoaderSettings
from signs_dist.data.loader_room import LONGEST_SOCKET_PATH, SOCKET_NAME, require_room
from signs_dist.environment.worker_limits import Limits
from signs_dist.errors import UserError

ENOUGH = Limits(
    temporary_folder="/tmp",
    open_files=1024,
    open_files_ceiling=4096,
    num_open_files=10,
    shared_bytes=2**30,
    is_shared_writable=True,
)
LONGEST_FOLDER = "/" + "x" * (LONGEST_SOCKET_PATH - len(SOCKET_NAME) - 1)
MEBIBYTE = 2**20


def settings(num_workers: int, prefetch: int = 2) -> LoaderSettings:
    return LoaderSettings(num_workers, prefetch, pin_memory=False)


@pytest.mark.parametrize(
    ("limits", "num_workers", "batch_bytes", "less"),
    [
        ({}, 2, MEBIBYTE, {"shared_bytes": 4 * MEBIBYTE - 1}),
        ({"temporary_folder": LONGEST_FOLDER}, 2, 0, {"temporary_folder": LONGEST_FOLDER + "x"}),
        ({"open_files": 20, "temporary_folder": LONGEST_FOLDER + "x", "is_shared_writable": False}, 0, 2**40, {}),
        ({"open_files": None, "open_files_ceiling": None}, 500, 0, {"open_files": 1024}),
        ({"open_files": 10 + 4 * 2 + 9 + 16}, 2, 0, {"open_files": 10 + 4 * 2 + 9 + 15}),
        ({"shared_bytes": None}, 2, 2**40, {"shared_bytes": 2**42 - 1}),  # the system does not say
        ({"shared_bytes": 64 * MEBIBYTE}, 2, 16 * MEBIBYTE, {"shared_bytes": 64 * MEBIBYTE - 1}),  # 4 batches
    ],
)
def test_enough(limits: dict[str, Any], num_workers: int, batch_bytes: int, less: dict[str, Any]) -> None:
    """What is just enough is taken, and `less`, with at least one worker, is refused."""
    found = dataclasses.replace(ENOUGH, **limits)
    require_room(settings(num_workers), found, num_loaders=1, batch_bytes=batch_bytes)
    with pytest.raises(UserError):
        require_room(
            settings(max(1, num_workers)), dataclasses.replace(found, **less), num_loaders=1, batch_bytes=batch_bytes
        )


@pytest.mark.parametrize(
    ("limits", "num_workers", "num_loaders", "batch_bytes", "message"),
    [
        (
            {"temporary_folder": LONGEST_FOLDER + "x"},
            1,
            1,
            0,
            "has 76 bytes, and .* need one of at most 75",
        ),
        ({"temporary_folder": "/" + "é" * 40}, 1, 1, 0, "has 81 bytes"),  # bytes count, not letters
        ({"temporary_folder": "/" + "x" * 120}, 2, 1, 0, "Set TMPDIR to a shorter one, such as TMPDIR=/tmp"),
        ({"open_files": 20}, 2, 1, 0, "2 loader workers need about 43 open files, and this process may have 20"),
        ({"open_files": 20}, 2, 1, 0, r"Type ulimit -n 4096; or set data.num_workers=0"),
        ({"open_files": 20, "open_files_ceiling": 30}, 2, 1, 0, r"The ceiling is 30 \(ulimit -Hn\), which root raises"),
        ({"open_files": 20, "open_files_ceiling": 50}, 2, 1, 0, r"Type ulimit -n 50;"),
        (
            {"open_files": 40, "open_files_ceiling": None},
            2,
            3,
            0,
            r"6 loader .* about 59 .* Type ulimit -n 59",
        ),
        ({"is_shared_writable": False}, 1, 1, 0, "may not write to /dev/shm"),
        ({"shared_bytes": 64 * MEBIBYTE}, 2, 1, 17 * MEBIBYTE, "hold up to 68 MiB .* /dev/shm has 64 MiB free"),
        ({"shared_bytes": 0}, 1, 1, 1, "docker run --shm-size"),
    ],
)
def test_too_little(limits: dict[str, Any], num_workers: int, num_loaders: int, batch_bytes: int, message: str) -> None:
    found = dataclasses.replace(ENOUGH, **limits)
    with pytest.raises(UserError, match=message):
        require_room(settings(num_workers), found, num_loaders=num_loaders, batch_bytes=batch_bytes)
