"""What a process tells of its run: before the first step, after each step, and of a step that it did once more.

All are plain values, which travel as JSON. A digest is a part of a SHA-256, in hex.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

Digests = dict[str, str]
"""Name of a tensor → its digest."""
Event = tuple[str, str, str]
"""(name of a layer or a parameter, `forward`, `backward` or `gradient`, digest), in the order of computation."""


@dataclasses.dataclass(frozen=True)
class Start:
    """A process before its first step.

    Attributes:
        rank: of the process.
        toolkit: the folder of the code that runs.
        is_exact: whether the run is in exact mode.
        precision: arithmetic of the forward pass.
        steps_done: steps of the run before the first step here.
        plan: `images`, `global_batch`, `micro_batch` and `steps` of an epoch.
        settings: every setting by its dotted key.
        fingerprints: SHA-256 of each split.
        arithmetic: `Fingerprint.as_dict`.
        weights: of each parameter and buffer.
        notes: what is to be told, such as a broken checkpoint.
    """

    rank: int
    toolkit: str
    is_exact: bool
    precision: str
    steps_done: int
    plan: dict[str, int]
    settings: dict[str, Any]
    fingerprints: Digests
    arithmetic: dict[str, Any]
    weights: Digests
    notes: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Start:
        """From `dataclasses.asdict`, through JSON."""
        return cls(**fields)


@dataclasses.dataclass(frozen=True)
class Part:
    """A micro-batch of a step, as one process computed it.

    Attributes:
        number: of the micro-batch in its step, from 0.
        samples: the numbers of its images.
        images: of each image as the network got it.
        targets: of all targets.
        loss: its share in the loss of the step, as `float.hex`.
        gradient: over the gradients of all parameters, before they are added to those of other micro-batches.
    """

    number: int
    samples: list[int]
    images: list[str]
    targets: str
    loss: str
    gradient: str


@dataclasses.dataclass(frozen=True)
class Step:
    """A step, as one process computed it.

    Attributes:
        rank: of the process.
        number: of the step in the run, from 1.
        epoch, step: the same place in epochs and steps of an epoch; both count from 1.
        parts: its micro-batches; all of the step over all processes.
        summed: over the summed gradients; "" where the process has only a part of them.
        clipped: over the gradients as the optimizer takes them; "" as for `summed`.
        entries: what each group of the optimizer says of this step: learning rate, weight decay and so on.
        weights: over the parameters after the step.
        optimizer: over the state of the optimizer after the step; "" where the process has only a part of it.
        average: over the moving average of the weights; "" without one.
        buffers: over the buffers after the step.
        error: why the step did not end; "" if it did.
    """

    rank: int
    number: int
    epoch: int
    step: int
    parts: list[Part]
    summed: str
    clipped: str
    entries: list[dict[str, Any]]
    weights: str
    optimizer: str
    average: str
    buffers: str
    error: str = ""

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Step:
        """From `dataclasses.asdict`, through JSON."""
        return cls(**{**fields, "parts": [Part(**part) for part in fields["parts"]]})


@dataclasses.dataclass(frozen=True)
class Detail:
    """A step that a process did once more, by name.

    Attributes:
        rank: of the process.
        events: of the micro-batch that was asked for; empty if another process has it.
        loss: of that micro-batch, as in `Part`; "" if another process has it.
        summed, clipped, weights, optimizer, average, buffers: as in `Step`, of each tensor.
    """

    rank: int
    events: list[Event]
    loss: str
    summed: Digests
    clipped: Digests
    weights: Digests
    optimizer: Digests
    average: Digests
    buffers: Digests

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Detail:
        """From `dataclasses.asdict`, through JSON."""
        events: list[Event] = [(name, direction, digest) for name, direction, digest in fields["events"]]
        return cls(**{**fields, "events": events})


def describe_protocol() -> str:
    """What the processes of a side tell, by name. A side with other code must have the same."""
    kinds = (Start, Part, Step, Detail)
    return "; ".join(f"{kind.__name__}: {' '.join(each.name for each in dataclasses.fields(kind))}" for kind in kinds)
