"""What is to be trained again, as plain values between processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from signs_dist.proving.segments import Segment


@dataclasses.dataclass(frozen=True)
class Job:
    """What to train again, and what to write down.

    Attributes:
        run: the run folder.
        data: where its images are now; None: where they were.
        device: auto, cpu, cuda or cuda:N.
        segments: in the order of the run.
        steps_of_lines: the steps at which the run wrote numbers down.
        validated: the steps of these whose numbers are of the validation images too.
        steps_of_states: the steps at which its chain has a state.
        subject: the digests of settings, images and code that the run tells, as `Subject.as_dict`.
        compared: the parts of it that must be equal: if they are not, nothing is trained.
        result_step: the step whose weights are the run's result.
    """

    run: str
    data: str | None
    device: str
    segments: Sequence[Segment]
    steps_of_lines: Sequence[int]
    validated: Sequence[int]
    steps_of_states: Sequence[int]
    subject: Mapping[str, str]
    compared: Sequence[str]
    result_step: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Job:
        """From `as_dict`, which may have been through JSON."""
        return cls(**{**values, "segments": [Segment(**each) for each in values["segments"]]})
