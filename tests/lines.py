"""Lines of metrics.jsonl and attempts.jsonl with values that no test asks for."""

from __future__ import annotations

from typing import Any

from signs_dist.run_folder.records import EndLine, EpochLine, SaveLine, StartLine, StateLine, StepLine

NUMBERS: dict[str, Any] = {
    "epoch": 1,
    "images": 8,
    "train_loss": 1.0,
    "train_accuracy": 0.5,
    "lr": 0.1,
    "images_per_second": 1.0,
    "data_wait_share": 0.0,
}
NOON = "2026-01-31T12:00:00+00:00"


def step_line(step: int, **changes: Any) -> StepLine:
    return StepLine(**{**NUMBERS, "step": step, **changes})


def epoch_line(step: int, **changes: Any) -> EpochLine:
    return EpochLine(**{**NUMBERS, "step": step, **changes})


def save_line(step: int, **changes: Any) -> SaveLine:
    return SaveLine(**{"epoch": 1, "step": step, "stall_seconds": 0.01, **changes})


def state_line(step: int, **changes: Any) -> StateLine:
    digests = {"state": f"{step:064x}", "chain": "", "subject": "5" * 64}
    return StateLine(**{"epoch": 1, "step": step, **digests, **changes})


def start_line(attempt: int = 1, **changes: Any) -> StartLine:
    return StartLine(**{"attempt": attempt, "time": NOON, "first_step": 0, "world_size": 1, **changes})


def end_line(attempt: int = 1, **changes: Any) -> EndLine:
    return EndLine(**{"attempt": attempt, "time": NOON, "reason": "finished", "last_step": 3, **changes})
