"""Which steps are replayed, and from what: read from flags, a run and its non_finite_loss.json."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signs_dist.errors import UserError

FAILURE_FILE = "non_finite_loss.json"


@dataclasses.dataclass(frozen=True)
class Request:
    """What is replayed. Its values are plain, so that it travels to other processes as JSON.

    Attributes:
        run_dir: the run folder.
        first, last: the steps of the run that are looked at, from 1.
        micro_batch: the number of the micro-batch that is looked at; None: all.
        data: where the images lie now; None: where they lay.
        device: auto, cpu, cuda or cuda:N.
        keeps_tensors: whether gradients and weights are kept.
        checks: whether the run is trained on up to its next recorded state, however long that takes.
    """

    run_dir: str
    first: int
    last: int
    micro_batch: int | None = None
    data: str | None = None
    device: str = "auto"
    keeps_tensors: bool = False
    checks: bool = False

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """From `to_json`."""
        return cls(**json.loads(text))


@dataclasses.dataclass(frozen=True)
class FailedMicroBatch:
    """A micro-batch whose loss was not finite, from non_finite_loss.json.

    Attributes:
        epoch: from 1.
        step: of the epoch, from 1.
        micro_batch: its number in the step, from 0.
        samples: the numbers of its images.
    """

    epoch: int
    step: int
    micro_batch: int
    samples: tuple[int, ...]

    def run_step(self, num_steps: int | None) -> int:
        """The step of the run, from 1. `num_steps` are those of an epoch; None if they are unknown.

        Raises:
            UserError: they are needed.
        """
        if self.epoch == 1:
            return self.step
        if num_steps is None:
            raise UserError(
                f"{FAILURE_FILE} names epoch {self.epoch}, step {self.step}, and nothing in the run folder tells how "
                f"many steps an epoch has. Type --step N."
            )
        return (self.epoch - 1) * num_steps + self.step


def read_failure(run_dir: Path) -> list[FailedMicroBatch]:
    """The micro-batches in a run's non_finite_loss.json, the first of the run first.

    Raises:
        UserError: the run has no such file, or it cannot be read.
    """
    path = run_dir / FAILURE_FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"--failure: {run_dir} has no {FAILURE_FILE}: no loss of this run was recorded as not finite. Type "
            f"--step N for a step of the run."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"--failure: cannot read {path}: {error}. Type --step N for a step of the run.") from error
    rows = value.get("micro_batches") if isinstance(value, dict) else None
    found = [row for each in (rows if isinstance(rows, list) else []) if (row := _read_row(each)) is not None]
    if not found:
        raise UserError(f"--failure: {path} names no micro-batch. Type --step N for a step of the run.")
    found.sort(key=lambda each: (each.epoch, each.step, each.micro_batch))
    return [each for each in found if (each.epoch, each.step) == (found[0].epoch, found[0].step)]


def _read_row(row: Any) -> FailedMicroBatch | None:
    if not isinstance(row, Mapping):
        return None
    numbers = [row.get(name) for name in ("epoch", "step", "micro_batch")]
    samples = row.get("samples")
    if not all(type(number) is int for number in numbers) or not isinstance(samples, list):
        return None
    epoch, step, micro_batch = numbers
    return FailedMicroBatch(epoch, step, micro_batch, tuple(samples)) if epoch > 0 and step > 0 else None  # type: ignore[operator, arg-type]


def checked_steps(step: int, until: int | None, last: int | None, why_last: str = "") -> tuple[int, int]:
    """The first and the last step to look at.

    Args:
        step: `--step`.
        until: `--until`; None: the first alone.
        last: the last step of the run; None if it is unknown.
        why_last: where that number is from, for the message.

    Raises:
        UserError: they are not steps of the run.
    """
    legal = f"from 1 to {last:,}{why_last}" if last is not None else "from 1"
    if step < 1:
        raise UserError(f"--step {step}: steps of a run count {legal}, as in metrics.jsonl.")
    if until is not None and until < step:
        raise UserError(f"--until {until} lies before --step {step}. Type --until {step} or a later step.")
    for flag, number in (("--step", step), ("--until", until)):
        if number is not None and last is not None and number > last:
            raise UserError(f"{flag} {number} lies after the end of the run. Its steps count {legal}.")
    return step, until if until is not None else step


def check_micro_batch(number: int | None, count: int) -> None:
    """Refuse a `--micro-batch` that a step does not have. Raises `UserError`."""
    if number is not None and not 0 <= number < count:
        legal = f"from 0 to {count - 1}" if count > 1 else "0 alone"
        raise UserError(f"--micro-batch {number}: the micro-batches of a step of this run are {legal}.")


def check_processes(number: int, count: int) -> None:
    """Refuse a `--processes` that leaves a process without a micro-batch. Raises `UserError`."""
    if not 1 <= number <= count:
        raise UserError(f"--processes {number}: a step of this run has {count} micro-batches. Type 1 to {count}.")
