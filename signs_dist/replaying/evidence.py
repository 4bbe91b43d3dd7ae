"""What the run wrote down about its steps, and how the steps that were trained again compare with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.lines import read_lines
from signs_dist.run_folder.sample_log import read_samples

Level = Literal["same bits", "same samples", "other bits", "other samples"]


@dataclasses.dataclass(frozen=True)
class Recorded:
    """What a run wrote down.

    Attributes:
        losses: the mean training loss of the epoch so far, by the number of steps since the start of the run.
        states: the SHA-256 of the state, by the number of steps since the start of the run.
        last_step: of its last line; 0 without one.
    """

    losses: dict[int, float]
    states: dict[int, str]
    last_step: int


def read_recorded(folder: RunFolder) -> Recorded:
    """Read metrics.jsonl. A line that cannot be read is omitted."""
    losses: dict[int, float] = {}
    states: dict[int, str] = {}
    for line in read_lines(folder.metrics):
        kind, step, loss, state = (line.get(name) for name in ("kind", "step", "train_loss", "state"))
        if type(step) is not int:
            continue
        if kind in ("step", "epoch") and isinstance(loss, (int, float)):
            losses[step] = float(loss)
        elif kind == "state" and isinstance(state, str):
            states[step] = state
    return Recorded(losses, states, max([0, *losses, *states]))


def recorded_samples(logs: Path, num_steps: int, first: int, last: int) -> dict[int, list[int]]:
    """The samples of the run's steps `first` to `last` by the logs of its processes, as far as they were logged."""
    found = read_samples(logs)
    places = {step: ((step - 1) // num_steps + 1, (step - 1) % num_steps + 1) for step in range(first, last + 1)}
    return {step: found[place] for step, place in places.items() if place in found}


@dataclasses.dataclass(frozen=True)
class Compared:
    """How what was trained again compares with what the run wrote down.

    Attributes:
        is_exact: whether the run is exact.
        same_bits: whether this machine computes the bits of the run, by its arithmetic; None if nothing can tell.
        differences: what differs in the arithmetic.
        same_images: whether the training images are those of the run; None if nothing can tell.
        states: (steps since the start of the run, whether the state is that of the run).
        losses: (steps since the start of the run, mean training loss of the epoch so far in the run, the same here).
        samples: (step, whether its samples are those of the run's log).
        other_settings: what the run has changed since its steps were trained.
        adapted: what this machine computes in another way than the run, because it cannot do it in the same way.
    """

    is_exact: bool
    same_bits: bool | None
    differences: Sequence[str] = ()
    same_images: bool | None = None
    states: Sequence[tuple[int, bool]] = ()
    losses: Sequence[tuple[int, float, float]] = ()
    samples: Sequence[tuple[int, bool]] = ()
    other_settings: Sequence[str] = ()
    adapted: Sequence[str] = ()

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Compared:
        """From `dataclasses.asdict`, also through JSON."""
        pairs = {name: [tuple(row) for row in values[name]] for name in ("states", "losses", "samples")}
        return cls(**{**values, **pairs})


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether the steps are those of the run.

    Attributes:
        level: `same bits`; `same samples`: samples and draws of the run, numbers equal to rounding; `other bits`: of a
            run whose bits this machine should give; `other samples`.
        reasons: sentences on why, for people.
    """

    level: Level
    reasons: list[str]

    @property
    def is_as_expected(self) -> bool:
        """Whether nothing differs that should be equal."""
        return self.level in ("same bits", "same samples")


def judge(compared: Compared, first: int, last: int) -> Verdict:
    """Whether the steps `first` to `last` are those of the run."""
    reasons = _reasons(compared, last)
    wrong_samples = [step for step, is_equal in compared.samples if not is_equal]
    if compared.same_images is False or wrong_samples:
        return Verdict("other samples", reasons)
    states, is_same_loss = [is_equal for _, is_equal in compared.states], _losses_are_equal(compared)
    if not compared.is_exact or compared.same_bits is False:
        is_proved = bool(states) and all(states) and any(step >= last for step, _ in compared.states)
        return Verdict("same bits" if is_proved else "same samples", reasons)
    if not all(states) or not is_same_loss:
        return Verdict("other bits", reasons)
    is_known = compared.same_bits is True or any(step >= first for step, _ in compared.states)
    return Verdict("same bits" if is_known else "same samples", reasons)


def _losses_are_equal(compared: Compared) -> bool:
    return all(of_run == here for _, of_run, here in compared.losses)


def _reasons(compared: Compared, last: int) -> list[str]:
    found = []
    if compared.same_images is False:
        found.append(
            "the training images are not those of the run: files were added, removed or changed. Give the images of "
            "the run with --data PATH"
        )
    if wrong := [step for step, is_equal in compared.samples if not is_equal]:
        found.append(f"logs/samples-rank*.jsonl has other samples for step {_listed(wrong)}")
    elif compared.samples:
        found.append(
            f"the samples of step {_listed([step for step, _ in compared.samples])} are those in the run's logs"
        )
    if wrong := [step for step, is_equal in compared.states if not is_equal]:
        found.append(f"the state after step {_listed(wrong)} differs from the run's in metrics.jsonl")
    if right := [step for step, is_equal in compared.states if is_equal]:
        found.append(f"the state after step {_listed(right)} has the SHA-256 that the run wrote into metrics.jsonl")
    if compared.losses:
        found.append(_about_losses(compared))
    if compared.other_settings:
        found.append(f"settings of the run have changed since: {', '.join(compared.other_settings)}")
    found += compared.adapted
    if not compared.is_exact:
        found.append("the run is not exact (exact=false): its sums depend on the number of processes and on the device")
    elif compared.same_bits is False:
        found.append(f"the arithmetic differs from the run's: {'; '.join(compared.differences) or 'other bits'}")
    elif compared.same_bits is None:
        found.append("the run recorded no arithmetic to compare with")
    else:
        found.append("the arithmetic is that of the run")
        if not any(step >= last for step, _ in compared.states):
            found.append(f"no recorded state at or after step {last:,} was reached to compare with")
    return found


def _about_losses(compared: Compared) -> str:
    count = f"{len(compared.losses)} line{'s' if len(compared.losses) > 1 else ''} of metrics.jsonl"
    if _losses_are_equal(compared):
        return f"the training loss in {count} is the same"
    step, of_run, here = max(compared.losses, key=lambda row: abs(row[1] - row[2]))
    return f"the training loss in {count} differs most at step {step:,}: {of_run:.8g} in the run, {here:.8g} here"


def _listed(steps: Sequence[int]) -> str:
    shown = ", ".join(f"{step:,}" for step in steps[:3])
    return shown if len(steps) <= 3 else f"{shown} and {len(steps) - 3} more"
