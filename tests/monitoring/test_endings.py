"""The exit code and the last line for every kind of error, as one table."""

from __future__ import annotations

import pytest

from signs_dist.errors import (
    CheckpointError,
    NonFiniteLossError,
    PeerLostError,
    SaveError,
    StoppedError,
    TrainingFailedError,
    UserError,
)
from signs_dist.monitoring.endings import exit_code, final_line


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("a=1; it is 2"), 2, "error: a=1; it is 2"),
        (TrainingFailedError("the loss is not a number"), 1, "error: the loss is not a number"),
        (PeerLostError("rank 1 never arrived"), 3, "error: rank 1 never arrived"),
        (SaveError("the disk is full"), 74, "error: the disk is full"),
        (StoppedError("at step 3"), 130, "interrupted"),
        (StoppedError("at step 3", 75), 75, "stopped"),
        (KeyboardInterrupt(), 130, "interrupted"),
        # Errors of others: what says only that a connection broke is a lost peer.
        (RuntimeError("Connection closed by peer [127.0.0.1]:53968"), 3, "error: Connection closed by peer"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 1, "error: mat1 and mat2"),
        (CheckpointError("a.pt is broken"), 1, "error: a.pt is broken"),
        (NonFiniteLossError([]), 1, "error: the loss is not a finite number"),
        (ValueError("a bug"), 1, "error: a bug"),
    ],
)
def test_how_a_command_ends(error: BaseException, code: int, line: str) -> None:
    assert exit_code(error) == code
    assert final_line(error).startswith(line)
