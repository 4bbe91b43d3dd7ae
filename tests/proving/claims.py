"""Claims about runs for tests, made without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from signs_dist.proving.claim import Claim
from signs_dist.proving.findings import Findings
from signs_dist.run_folder.chain import covered_fields, next_link
from signs_dist.run_folder.records import EpochLine, MetricsLine, StateLine, StepLine
from signs_dist.run_folder.subject import Subject

NUM_STEPS = 4
SUBJECT = Subject("config", "data", "code").as_dict()
PARTS = {"model": "m", "ema": "a", "optimizer": "o", "scaler": "s", "place": "p"}


def numbers(step: int) -> dict[str, Any]:
    return {
        "epoch": (step - 1) // NUM_STEPS + 1,
        "step": step,
        "images": 8 * step,
        "train_loss": 1 / step,
        "train_accuracy": 0.5,
        "lr": 0.1,
        "images_per_second": 100.0,
        "data_wait_share": 0.0,
    }


def step_line(step: int) -> StepLine:
    return StepLine(**numbers(step))


def epoch_line(epoch: int, **changes: Any) -> EpochLine:
    validated = {"val_loss": 2 / epoch, "val_accuracy": min(1.0, epoch / 10), "val_macro_f1": 0.5}
    return EpochLine(**{**numbers(epoch * NUM_STEPS), **validated, **changes})


def chained(*lines: MetricsLine, subjects: dict[int, str] | None = None) -> list[MetricsLine]:
    """The lines with that of a state after each epoch's."""
    found: list[MetricsLine] = []
    for line in lines:
        found.append(line)
        if isinstance(line, EpochLine):
            subject = (subjects or {}).get(line.step, SUBJECT["sha256"])
            state = StateLine(epoch=line.epoch, step=line.step, state=f"state{line.step}", chain="", subject=subject)
            found.append(next_link(found, state))
    return found


def some_lines(epochs: int = 3) -> list[MetricsLine]:
    lines = [[step_line(4 * epoch - 2), epoch_line(epoch)] for epoch in range(1, epochs + 1)]
    return chained(*(line for pair in lines for line in pair))


def some_result(epochs: int = 3, **changes: Any) -> dict[str, Any]:
    last = epoch_line(epochs)
    return {
        "finished": True,
        "exact": True,
        "steps": epochs * NUM_STEPS,
        "epochs": epochs,
        "epochs_trained": epochs,
        "best_epoch": epochs,
        "best_by": "accuracy",
        "weights": {"kind": "last", "epoch": epochs},
        "weights_sha256": "w",
        "split_sizes": {"train": 32, "val": 8},
        **{name: getattr(last, name) for name in ("val_loss", "val_accuracy", "val_macro_f1")},
        **{f"best_{name}": getattr(last, name) for name in ("val_loss", "val_accuracy", "val_macro_f1")},
        **changes,
    }


def some_claim(epochs: int = 3, **changes: Any) -> Claim:
    values: dict[str, Any] = {
        "path": Path("runs/a"),
        "settings": {"exact": True, "train": {"epochs": epochs}, "checkpoint": {"keep_every_epochs": 1}},
        "lines": some_lines(epochs),
        "manifest": {"subject": SUBJECT},
        "result": some_result(epochs),
        "receipt": None,
        "kept": frozenset(range(NUM_STEPS, epochs * NUM_STEPS + 1, NUM_STEPS)),
    }
    return Claim(**{**values, **changes})


def some_findings(claim: Claim, **changes: Any) -> Findings:
    """What training all of a claim again finds if nothing differs."""
    values: dict[str, Any] = {
        "same_images": True,
        "same_bits": True,
        "differences": [],
        "arithmetic": {"names": {}},
        "subject": claim.subject,
        "kept": [],
        "model": "w",
        "lines": [covered_fields(line) for line in claim.lines if isinstance(line, StepLine)],
        "states": {line.step: {**PARTS, "state": line.state} for line in claim.states},
        "result": {"val_loss": claim.result["val_loss"], "weights_sha256": "w"},
        "not_finite": None,
        "num_steps": NUM_STEPS,
    }
    return Findings(**{**values, **changes})
