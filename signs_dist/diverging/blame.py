"""Where two runs part: the first micro-batch, the first layer and the direction whose bits differ, from digests.

A side is a run with all its processes. What all processes compute alike is compared with that of process 0 of side A.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from signs_dist.diverging.facts import Detail, Digests, Event, Part, Start, Step

Direction = Literal[
    "plan",
    "samples",
    "input",
    "targets",
    "forward",
    "loss",
    "backward",
    "reduction",
    "clipping",
    "optimizer",
    "buffers",
    "average",
    "end",
]
"""What computed other bits, in the order of blame within a step."""
SIDES = ("A", "B")
OF_MICRO_BATCH = ("samples", "input", "targets", "forward", "loss", "backward")
"""Directions within one micro-batch; the others are of the whole step."""
KNOWN_AT_ONCE = ("plan", "samples", "input", "targets", "end")
"""Directions in which no layer is to be looked for."""
WHOLE_STEP: tuple[tuple[Direction, str], ...] = (
    ("reduction", "summed"),
    ("clipping", "clipped"),
    ("optimizer", "weights"),
    ("optimizer", "optimizer"),
    ("buffers", "buffers"),
    ("average", "average"),
)
"""What a step computes after its micro-batches, in the order of blame: (direction, field of `Step`)."""
MAY_BE_SPREAD = ("summed", "clipped", "optimizer")
"""Fields of `Step` that are empty where each process has only a part."""
FIELDS_OF_DETAIL: Mapping[str, tuple[str, ...]] = {
    "reduction": ("summed",),
    "clipping": ("clipped",),
    "optimizer": ("weights", "optimizer"),
    "average": ("average",),
    "buffers": ("buffers",),
}
"""Direction → the fields of `Detail` that name its tensors."""


@dataclasses.dataclass(frozen=True)
class Place:
    """The first difference of two runs.

    Attributes:
        number: of the step in the run, from 1.
        epoch, step: the same place in epochs and steps of an epoch; both count from 1.
        micro_batch: from 0; None for what the whole step has in common.
        direction: what computed other bits.
        layer: the layer; "" where it is not known, or where the difference is in no layer.
        tensor: the parameter, the buffer, or with `:name` an entry of the optimizer's state; "" where it is not known,
            or where it is the output of the layer, or the gradient there.
        samples: numbers of the images that differ, for `input` and `samples`: those of A.
        entries: of the optimizer's groups those that differ: name → (A, B).
        odd: processes of a side that have other bits than process 0 of the same side, such as `process 1 of B`.
        unsteady: sides on which the step gave other bits when it was done once more, and the name of what did.
        vanished: whether the step no longer differed when it was done once more.
        errors: what ended the step on each side; "" where it did not end.
    """

    number: int
    epoch: int
    step: int
    direction: Direction
    micro_batch: int | None = None
    layer: str = ""
    tensor: str = ""
    samples: tuple[int, ...] = ()
    entries: Mapping[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    odd: tuple[str, ...] = ()
    unsteady: Mapping[str, str] = dataclasses.field(default_factory=dict)
    vanished: bool = False
    errors: tuple[str, str] = ("", "")


def compare_steps(left: Sequence[Step], right: Sequence[Step]) -> Place | None:
    """The first difference of a step; None if all bits are equal.

    Args:
        left, right: what each process of a side tells of the step, by rank.
    """
    at = left[0].number, left[0].epoch, left[0].step
    ours, theirs = _parts_of(left), _parts_of(right)
    errors = left[0].error, right[0].error
    if [len(part.samples) for part in ours] != [len(part.samples) for part in theirs] and not any(errors):
        return Place(*at, "plan")
    for one, other in zip(ours, theirs, strict=False):
        if found := _compare_parts(one, other):
            direction, samples = found
            return Place(*at, direction, one.number, samples=samples, errors=errors)
    if bool(errors[0]) != bool(errors[1]):  # a step that has ended has no more to be compared
        return Place(*at, "end", errors=errors)
    entries = differing_entries(left[0].entries, right[0].entries)
    for direction, field in WHOLE_STEP:
        odd = _compare_field(left, right, field)
        if odd is not None:
            return Place(*at, direction, odd=odd, entries=entries, errors=errors)
    return None


def refine(place: Place, left: Sequence[Sequence[Detail]], right: Sequence[Sequence[Detail]]) -> Place:
    """Name the layer or the tensor, from what the processes tell of the step that they did again.

    Args:
        place: from `compare_steps`.
        left, right: for each time that the step was done again, what each process of the side tells.
    """
    unsteady = {
        side: name
        for side, times in zip(SIDES, (left, right), strict=True)
        if (name := _unsteady(times, place.direction))
    }
    place = dataclasses.replace(place, unsteady=unsteady)
    if place.direction in OF_MICRO_BATCH:
        found = _refine_pass(place, _of_pass(left[0]), _of_pass(right[0]))
    else:
        found = _refine_step(place, left[0], right[0])
    return found or dataclasses.replace(place, vanished=not unsteady)


def _refine_pass(place: Place, one: Detail | None, other: Detail | None) -> Place | None:
    if one is None or other is None:
        return None
    event = first_event(one.events, other.events)
    if event is not None and event[1] == "forward":
        return dataclasses.replace(place, direction="forward", layer=event[0])
    if one.loss != other.loss:
        return dataclasses.replace(place, direction="loss")
    if event is None:
        return None
    name, kind = event
    if kind == "gradient":
        return dataclasses.replace(place, direction="backward", layer=_layer_of(name), tensor=name)
    return dataclasses.replace(place, direction="backward", layer=name)


def _refine_step(place: Place, left: Sequence[Detail], right: Sequence[Detail]) -> Place | None:
    if place.direction not in FIELDS_OF_DETAIL:
        return place
    names = (_first_tensor(left, right, field) for field in FIELDS_OF_DETAIL[place.direction])
    name = next(filter(None, names), "")
    return dataclasses.replace(place, layer=_layer_of(name), tensor=name) if name else None


def _layer_of(tensor: str) -> str:
    """The layer of a parameter, a buffer, or an entry of the optimizer's state."""
    return tensor.partition(":")[0].rpartition(".")[0]


def first_event(left: Sequence[Event], right: Sequence[Event]) -> tuple[str, str] | None:
    """(name, direction) of the first computation whose bits differ, or that one side does not have; None if none.

    A forward pass that differs comes before all that differs in the backward pass, whichever side has it.
    """
    found = [*_events_without_equal(left, right), *_events_without_equal(right, left)]
    if not found:
        return None
    _, _, name, direction = min(found, key=lambda event: event[:2])
    return name, direction


def _events_without_equal(own: Sequence[Event], other: Sequence[Event]) -> list[tuple[bool, int, str, str]]:
    """(whether it is of the backward pass, place, name, direction) of what the other side has not or has otherwise."""
    theirs = {(name, direction): digest for name, direction, digest in other}
    return [
        (direction != "forward", place, name, direction)
        for place, (name, direction, digest) in enumerate(own)
        if theirs.get((name, direction)) != digest
    ]


def differing_entries(
    left: Sequence[Mapping[str, Any]], right: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[Any, Any]]:
    """Entries of the optimizer's groups that differ: name → (A, B), of the first group in which they do."""
    found: dict[str, tuple[Any, Any]] = {}
    if len(left) != len(right):
        found["number of groups"] = len(left), len(right)
    for one, other in zip(left, right, strict=False):
        for name in [*one, *(name for name in other if name not in one)]:
            if one.get(name) != other.get(name):
                found.setdefault(name, (one.get(name), other.get(name)))
    return found


@dataclasses.dataclass(frozen=True)
class Before:
    """What differs before the first step.

    Attributes:
        arithmetic: by name; empty where both compute the same bits.
        settings: dotted key → (A, B).
        data: splits whose images differ.
        plan: what differs of `Start.plan`: name → (A, B).
        weights: names of the parameters and buffers that differ; None where the sides begin at different steps.
        toolkits: the folders of the code, where they differ.
    """

    arithmetic: list[str]
    settings: Mapping[str, Sequence[Any]]
    data: list[str]
    plan: Mapping[str, tuple[Any, Any]]
    weights: list[str] | None
    toolkits: tuple[str, ...] = ()


def differing_weights(left: Start, right: Start) -> list[str] | None:
    """The names of parameters and buffers that differ, in the order of A; None if the sides begin elsewhere."""
    if left.steps_done != right.steps_done:
        return None
    return _differing(left.weights, right.weights)


def differing_plan(left: Start, right: Start) -> dict[str, tuple[Any, Any]]:
    """What differs of the plan and the precision: name → (A, B)."""
    ours: dict[str, Any] = {**left.plan, "precision": left.precision}
    theirs: dict[str, Any] = {**right.plan, "precision": right.precision}
    return {name: (ours[name], theirs.get(name)) for name in ours if ours[name] != theirs.get(name)}


def differing_splits(left: Start, right: Start) -> list[str]:
    """The splits whose images differ."""
    return _differing(left.fingerprints, right.fingerprints)


def _differing(left: Digests, right: Digests) -> list[str]:
    names = [*left, *(name for name in right if name not in left)]
    return [name for name in names if left.get(name) != right.get(name)]


def _parts_of(side: Sequence[Step]) -> list[Part]:
    return sorted((part for step in side for part in step.parts), key=lambda part: part.number)


def _compare_parts(one: Part, other: Part) -> tuple[Direction, tuple[int, ...]] | None:
    if one.samples != other.samples:
        return "samples", tuple(a for a, b in zip(one.samples, other.samples, strict=False) if a != b)
    if one.images != other.images:
        pairs = zip(one.samples, one.images, other.images, strict=True)
        return "input", tuple(sample for sample, image, its in pairs if image != its)
    if one.targets != other.targets:
        return "targets", tuple(one.samples)
    if one.loss != other.loss:
        return "forward", ()
    return ("backward", ()) if one.gradient != other.gradient else None


def _compare_field(left: Sequence[Step], right: Sequence[Step], field: str) -> tuple[str, ...] | None:
    """None if all processes of both sides have the same bits, else those that differ from process 0 of their side."""
    sides = [[getattr(step, field) for step in side] for side in (left, right)]
    if field in MAY_BE_SPREAD and not all(value for side in sides for value in side):
        return None
    if all(value == sides[0][0] for side in sides for value in side):
        return None
    return tuple(
        f"process {step.rank} of {name}"
        for name, side, values in zip(SIDES, (left, right), sides, strict=True)
        for step, value in zip(side, values, strict=True)
        if value != values[0]
    )


def _of_pass(side: Sequence[Detail]) -> Detail | None:
    """What the process tells that had the micro-batch."""
    return next((detail for detail in side if detail.events), None)


def _first_tensor(left: Sequence[Detail], right: Sequence[Detail], field: str) -> str:
    """The first tensor in which some process differs from process 0 of A; "" if none."""
    reference: Digests = getattr(left[0], field)
    every = [getattr(detail, field) for side in (left, right) for detail in side]
    return next((name for other in every for name in _differing(reference, other)), "")


def _unsteady(times: Sequence[Sequence[Detail]], direction: str) -> str:
    """What a side computed otherwise when it did the same step again: the first name; "" if it repeats its bits."""
    return next(_changes(times, direction), "")


def _changes(times: Sequence[Sequence[Detail]], direction: str) -> Iterator[str]:
    if len(times) < 2:
        return
    one, other = _of_pass(times[0]), _of_pass(times[1])
    if one is not None and other is not None and (event := first_event(one.events, other.events)):
        yield f"{event[0]}, {event[1]}"
    if direction in OF_MICRO_BATCH:
        return
    for first, again in zip(times[0], times[1], strict=True):
        for field in ("summed", "clipped", "weights"):
            for name in _differing(getattr(first, field), getattr(again, field)):
                yield f"{name}, {'reduction' if field == 'summed' else 'optimizer'}"
