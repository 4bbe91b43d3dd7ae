"""The comparison of two runs, from the states that they have saved to the first bits that differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from signs_dist.diverging import wording
from signs_dist.diverging.blame import SIDES, Place
from signs_dist.diverging.brackets import Bracket
from signs_dist.diverging.request import DEFAULT_STEPS, Request
from signs_dist.diverging.running import Outcome, compare_sides
from signs_dist.diverging.saved_states import SavedStates, bracket_of
from signs_dist.environment.subprocesses import count_processes
from signs_dist.results.differences import differing_settings
from signs_dist.results.run_settings import read_settings
from signs_dist.retraining.recorded_run import RecordedRun, read_recorded_run

Tell = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Result:
    """What a comparison has found.

    Attributes:
        bracket: of the saved states; None for one config on two settings.
        outcome: of training side by side; None if the saved states show that all is equal.
        recorded: whether each side's saved state is what training it again gives; None where that was not compared.
    """

    bracket: Bracket | None
    outcome: Outcome | None
    recorded: tuple[bool, bool] | None = None

    @property
    def place(self) -> Place | None:
        """The first difference."""
        return self.outcome.place if self.outcome is not None else None

    @property
    def is_equal(self) -> bool:
        """Whether no bit differs, in the saved states and in the steps that were done again."""
        return self.place is None and (self.bracket is None or self.bracket.differs is None)

    def as_fields(self) -> dict[str, Any]:
        """Plain values for JSON."""
        outcome = self.outcome
        place = dataclasses.asdict(outcome.place) if outcome is not None and outcome.place is not None else None
        return {
            "equal": self.is_equal,
            "bracket": dataclasses.asdict(self.bracket) if self.bracket is not None else None,
            "first_difference": place,
            "files": outcome.names if outcome is not None else [],
            "compared_steps": [outcome.first, outcome.last] if outcome is not None else None,
            "before": dataclasses.asdict(outcome.before) if outcome is not None else None,
            "images": outcome.images if outcome is not None else [],
            "saved_states_repeat": list(self.recorded) if self.recorded is not None else None,
        }


def compare(request: Request, folder: Path, tell: Tell) -> Result:
    """Compare two sides, and tell what is found.

    Args:
        request: what is compared.
        folder: an empty folder for what the processes print.
        tell: gets each line.

    Raises:
        UserError: a side was given wrong input.
        TrainingFailedError: the processes of a side failed.
    """
    for line in [*wording.describe_subjects(request.subjects), *request.notes]:
        tell(line)
    return _compare_runs(request, folder, tell) if request.is_of_runs else _compare_config(request, folder, tell)


def _compare_config(request: Request, folder: Path, tell: Tell) -> Result:
    until = request.steps or DEFAULT_STEPS
    _tell_training(request, 0, until, tell)
    outcome = compare_sides(request.subjects, folder, until=until, device=request.device)
    result = Result(None, outcome)
    for line in _describe(result, request):
        tell(line)
    return result


def _compare_runs(request: Request, folder: Path, tell: Tell) -> Result:
    first, second = request.subjects
    assert first.run is not None
    assert second.run is not None
    left, right = read_recorded_run(first.run), read_recorded_run(second.run)
    for line in [*_recorded_arithmetic(left, right), *_differing_settings(left, right)]:
        tell(line)
    ours, theirs = SavedStates(left), SavedStates(right)
    bracket = bracket_of(ours, theirs)
    tell(wording.describe_bracket(bracket))
    until = bracket.differs or min(ours.last, theirs.last) or request.steps or DEFAULT_STEPS
    until = min(until, request.steps or until)
    if until <= bracket.equal:
        result = Result(Bracket(bracket.equal, None, bracket.num_compared), None)
        tell(f"EQUAL: the same bits in the saved states up to step {bracket.equal}")
        return result
    _tell_training(request, bracket.equal, until, tell)
    reaches_state = until == bracket.differs
    outcome = compare_sides(
        request.subjects,
        folder,
        until=until,
        equal=bracket.equal,
        device=request.device,
        wants_states=reaches_state,
    )
    recorded = None
    if outcome.states is not None:
        one, other = outcome.states
        recorded = ours.digest(until) in one, theirs.digest(until) in other
    if not reaches_state:
        bracket = dataclasses.replace(bracket, differs=None)
    result = Result(bracket, outcome, recorded)
    for line in _describe(result, request):
        tell(line)
    return result


def _recorded_arithmetic(left: RecordedRun, right: RecordedRun) -> list[str]:
    if left.arithmetic is None or right.arithmetic is None:
        return []
    is_same = left.arithmetic.is_same(right.arithmetic)
    return wording.describe_recorded_arithmetic(left.arithmetic.differences(right.arithmetic), is_same=is_same)


def _differing_settings(left: RecordedRun, right: RecordedRun) -> list[str]:
    settings = [read_settings(run.config.model_dump(mode="json")) for run in (left, right)]
    return wording.describe_settings(differing_settings(settings))


def _tell_training(request: Request, equal: int, until: int, tell: Tell) -> None:
    numbers = " and ".join(count_processes(subject.num_processes) for subject in request.subjects)
    tell(f"training both side by side, steps {equal + 1} to {until}, on {numbers} …")


def _describe(result: Result, request: Request) -> list[str]:
    outcome = result.outcome
    assert outcome is not None
    lines = [f"{name}: {note}" for name, start in zip(SIDES, outcome.starts, strict=True) for note in start.notes]
    lines += wording.describe_outcome(outcome, has_told_settings=request.is_of_runs)
    lines += wording.describe_fast_mode(outcome, request.subjects, request.exact_command)
    if result.place is not None:
        return [*lines, f"DIFFERENT: from step {result.place.number} on"]
    if outcome.ended:
        lines.append(f"both end in step {outcome.last}: {outcome.ended}")
    return [*lines, *_describe_no_difference(result, outcome)]


def _describe_no_difference(result: Result, outcome: Outcome) -> Sequence[str]:
    compared = f"steps {outcome.first} to {outcome.last}, {outcome.last - outcome.first + 1} in all"
    if result.is_equal:
        return [f"EQUAL: the same bits in {compared}"]
    assert result.bracket is not None
    lines = [f"trained again here, both have the same bits in {compared}"]
    for name, start, repeats in zip(SIDES, outcome.starts, result.recorded or (), strict=False):
        lines.append(wording.describe_saved_state(name, repeats=repeats, is_exact=start.is_exact))
    return [*lines, f"DIFFERENT: the saved states after step {result.bracket.differs}"]
