"""The error file of a torchrun worker, whose text torchrun's report shows (torch.distributed.elastic)."""

from __future__ import annotations

import json
import time
from pathlib import Path

from signs_dist.monitoring.failure_card import FailureCard, Kind, render

_LATER_SECONDS: dict[Kind, int] = {"error": 0, "killed": 5, "lost_peer": 10}
"""Seconds added to the time of a card. torchrun reports the earliest file as the root cause. It also reads the files of
workers that it killed itself, which were written in advance. So an error must be earlier than these."""


def write_error_file(path: Path, card: FailureCard) -> None:
    """Write a card to the error file of its process."""
    timestamp = int(card.time) + _LATER_SECONDS[card.kind]
    _write(path, card.error, card.exit_code, "\n" + render(card), timestamp)


def write_error_line(path: Path, line: str, exit_code: int) -> None:
    """Write one line to the error file, unless it exists: for an error before the run begins."""
    if not path.exists():
        _write(path, line, exit_code, line, int(time.time()))


def _write(path: Path, message: str, exit_code: int, shown: str, timestamp: int) -> None:
    extra = {"py_callstack": shown, "timestamp": str(timestamp)}
    content = {"message": {"message": message, "errorCode": exit_code, "extraInfo": extra}}
    aside = path.with_suffix(".aside")
    aside.write_text(json.dumps(content), encoding="utf-8")
    aside.replace(path)
