"""The error file, as torchrun's report shows it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from signs_dist.monitoring.beats import Identity
from signs_dist.monitoring.error_file import write_error_file, write_error_line
from signs_dist.monitoring.failure_card import (
    FailureCard,
)
from signs_dist.monitoring.pulse import Pulse

IDENTITY = Identity(2, 4, "node7", 4711, "cuda:2", "runs/a/logs/rank2.log")


def card(**changes: object) -> FailureCard:
    made = FailureCard.of_process(
        *(IDENTITY, Pulse()), kind="error", error="ValueError: wrong shape", time=5.0, told_by=2, exit_code=1
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_torchruns_report_shows_the_card_and_the_right_root(tmp_path: Path) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    cards = {0: FailureCard.if_killed(IDENTITY, Pulse()), 1: card(), 2: card(kind="lost_peer")}
    # The killed process's file was written a second before the error: it must not come first.
    cards[0] = dataclasses.replace(cards[0], time=cards[1].time - 1)
    failures = {}
    for rank, each in cards.items():
        path = tmp_path / f"{rank}.json"
        write_error_file(path, each)
        failures[rank] = ProcessFailure(local_rank=rank, pid=1, exitcode=1, error_file=str(path))
    error = ChildFailedError("signs_dist.train", failures)
    assert error.get_first_failure()[0] == 1
    root = str(error)[str(error).index("Root Cause") :]
    assert "  ──── signs_dist: rank 2 of 4 failed ─" in root
    assert "error  ValueError: wrong shape" in root


def test_one_line_is_written_unless_there_is_a_card(tmp_path: Path) -> None:
    path = tmp_path / "error.json"
    write_error_line(path, "error: a=1; it is 2", 2)
    content = json.loads(path.read_text())["message"]
    assert (content["message"], content["errorCode"]) == ("error: a=1; it is 2", 2)
    write_error_file(path, card())
    write_error_line(path, "error: later", 2)
    assert json.loads(path.read_text())["message"]["message"] == "ValueError: wrong shape"
