"""Which difference of a step is the first, as tables of digests."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from signs_dist.diverging.blame import (
    Place,
    compare_steps,
    differing_entries,
    differing_plan,
    differing_splits,
    differing_weights,
    first_event,
    refine,
)
from signs_dist.diverging.facts import Detail, Event, Part, Start, Step

PART = Part(number=0, samples=[4, 9], images=["i4", "i9"], targets="t", loss="0x1p0", gradient="g")
STEP = Step(
    rank=0,
    number=7,
    epoch=2,
    step=3,
    parts=[PART, dataclasses.replace(PART, number=1, samples=[1, 2])],
    summed="s",
    clipped="c",
    entries=[{"lr": 0.1, "momentum": 0.9}],
    weights="w",
    optimizer="o",
    average="a",
    buffers="b",
)
DETAIL = Detail(
    rank=0,
    events=[("conv", "forward", "1"), ("fc", "forward", "2"), ("fc", "backward", "3"), ("fc.weight", "gradient", "4")],
    loss="0x1p0",
    summed={"conv.weight": "1", "fc.weight": "2"},
    clipped={"conv.weight": "1", "fc.weight": "2"},
    weights={"conv.weight": "1", "fc.weight": "2"},
    optimizer={"fc.weight:momentum_buffer": "1"},
    average={"fc.weight": "1"},
    buffers={"bn.running_mean": "1"},
)


def part_changed(number: int, **changes: Any) -> Step:
    parts = [dataclasses.replace(part, **changes) if part.number == number else part for part in STEP.parts]
    return dataclasses.replace(STEP, parts=parts)


@pytest.mark.parametrize(
    ("other", "direction", "micro_batch", "samples"),
    [
        (part_changed(0, samples=[4, 8]), "samples", 0, (9,)),
        (part_changed(0, samples=[4]), "plan", None, ()),
        (part_changed(1, images=["i4", "other"]), "input", 1, (2,)),
        (part_changed(1, targets="other"), "targets", 1, (1, 2)),
        (part_changed(1, loss="0x1p1", gradient="other"), "forward", 1, ()),
        (part_changed(0, gradient="other"), "backward", 0, ()),
        (dataclasses.replace(STEP, summed="x", clipped="x", weights="x"), "reduction", None, ()),
        (dataclasses.replace(STEP, clipped="x", weights="x"), "clipping", None, ()),
        (dataclasses.replace(STEP, weights="x", average="x"), "optimizer", None, ()),
        (dataclasses.replace(STEP, optimizer="x"), "optimizer", None, ()),
        (dataclasses.replace(STEP, buffers="x", average="x"), "buffers", None, ()),
        (dataclasses.replace(STEP, average="x"), "average", None, ()),
        (dataclasses.replace(STEP, error="not finite"), "end", None, ()),
        (dataclasses.replace(STEP, error="not finite", clipped="", weights="x"), "end", None, ()),
    ],
)
def test_the_order_of_blame(other: Step, direction: str, micro_batch: int | None, samples: tuple[int, ...]) -> None:
    place = compare_steps([STEP], [other])
    assert place is not None
    assert (place.number, place.epoch, place.step) == (7, 2, 3)
    assert (place.direction, place.micro_batch, place.samples) == (direction, micro_batch, samples)


def test_equal_steps_on_other_numbers_of_processes() -> None:
    halves = [dataclasses.replace(STEP, rank=rank, parts=[part]) for rank, part in enumerate(reversed(STEP.parts))]
    assert compare_steps([STEP], halves) is None


def test_what_each_process_has_a_part_of_is_not_compared() -> None:
    spread = dataclasses.replace(STEP, summed="", clipped="", optimizer="")
    assert compare_steps([STEP], [spread]) is None
    place = compare_steps([STEP], [dataclasses.replace(STEP, average="")])
    assert place is not None
    assert place.direction == "average"


def test_a_process_that_fell_out_of_step_is_named() -> None:
    odd = dataclasses.replace(STEP, rank=1, parts=[], summed="x", weights="x")
    place = compare_steps([STEP], [STEP, odd])
    assert place is not None
    assert (place.direction, place.odd) == ("reduction", ("process 1 of B",))


def test_entries_of_the_optimizer_that_differ_are_named() -> None:
    other = dataclasses.replace(STEP, weights="x", entries=[{"lr": 0.1, "momentum": 0.8}])
    place = compare_steps([STEP], [other])
    assert place is not None
    assert place.entries == {"momentum": (0.9, 0.8)}
    assert differing_entries([{"lr": 1}], [{"lr": 1}, {"lr": 2}]) == {"number of groups": (1, 2)}


def detail(**changes: Any) -> list[Detail]:
    return [dataclasses.replace(DETAIL, **changes)]


def events(**digests: str) -> list[Event]:
    return [
        (name, direction, digests.get(f"{direction}_{name}".replace(".", "_"), digest))
        for name, direction, digest in DETAIL.events
    ]


@pytest.mark.parametrize(
    ("direction", "other", "found"),
    [
        ("forward", detail(events=events(forward_fc="x", backward_fc="x"), loss="x"), ("forward", "fc", "")),
        ("backward", detail(events=events(forward_conv="x")), ("forward", "conv", "")),
        ("forward", detail(events=events(backward_fc="x"), loss="x"), ("loss", "", "")),
        ("backward", detail(events=events(backward_fc="x")), ("backward", "fc", "")),
        ("backward", detail(events=events(gradient_fc_weight="x")), ("backward", "fc", "fc.weight")),
        ("reduction", detail(summed={"conv.weight": "1", "fc.weight": "x"}), ("reduction", "fc", "fc.weight")),
        ("optimizer", detail(weights={"conv.weight": "x", "fc.weight": "x"}), ("optimizer", "conv", "conv.weight")),
        (
            "optimizer",
            detail(optimizer={"fc.weight:momentum_buffer": "x"}),
            ("optimizer", "fc", "fc.weight:momentum_buffer"),
        ),
        ("buffers", detail(buffers={"bn.running_mean": "x"}), ("buffers", "bn", "bn.running_mean")),
    ],
)
def test_the_layer_is_named(direction: Any, other: list[Detail], found: tuple[str, str, str]) -> None:
    place = refine(Place(7, 2, 3, direction, 0), [[DETAIL], [DETAIL]], [other, other])
    assert (place.direction, place.layer, place.tensor) == found
    assert not place.vanished
    assert not place.unsteady


def test_a_side_that_does_not_repeat_its_bits_is_named() -> None:
    times = [detail(events=events(forward_fc="x"), loss="x"), detail(events=events(forward_fc="y"), loss="y")]
    place = refine(Place(7, 2, 3, "forward", 0), [[DETAIL], [DETAIL]], times)
    assert place.unsteady == {"B": "fc, forward"}
    assert (place.direction, place.layer) == ("forward", "fc")


@pytest.mark.parametrize("direction", ["forward", "backward", "reduction", "optimizer"])
def test_a_difference_that_does_not_come_again_is_told(direction: Any) -> None:
    place = refine(Place(7, 2, 3, direction, 0), [[DETAIL], [DETAIL]], [[DETAIL], [DETAIL]])
    assert place.vanished


def test_a_layer_that_only_one_side_has() -> None:
    more: list[Event] = [*DETAIL.events, ("extra", "forward", "9")]
    assert first_event(DETAIL.events, more) == ("extra", "forward")
    assert first_event(more, DETAIL.events) == ("extra", "forward")
    assert first_event(DETAIL.events, DETAIL.events) is None


def test_a_forward_pass_that_only_one_side_computes_comes_before_the_backward_pass() -> None:
    forward: list[Event] = [("fc", "forward", "1")]
    ours: list[Event] = [*forward, ("fc", "backward", "2")]
    theirs: list[Event] = [*forward, ("(network)", "forward", "3"), ("fc", "backward", "x")]
    assert first_event(ours, theirs) == first_event(theirs, ours) == ("(network)", "forward")
    place = refine(Place(7, 2, 3, "forward", 0), [detail(events=ours)], [detail(events=theirs, loss="nan")])
    assert (place.direction, place.layer) == ("forward", "(network)")


def test_what_ended_a_step_is_told_beside_its_first_difference() -> None:
    other = dataclasses.replace(part_changed(0, loss="nan"), error="not finite")
    place = compare_steps([STEP], [other])
    assert place is not None
    assert (place.direction, place.errors) == ("forward", ("", "not finite"))


def test_what_differs_before_the_first_step() -> None:
    one = Start(0, "/a", True, "float32", 0, {"images": 8}, {}, {"train": "1", "val": "2"}, {}, {"fc.weight": "1"})
    other = dataclasses.replace(
        one, plan={"images": 9}, fingerprints={"train": "x", "val": "2"}, weights={"fc.weight": "x"}
    )
    assert differing_weights(one, other) == ["fc.weight"]
    assert differing_weights(one, dataclasses.replace(other, steps_done=4)) is None
    assert differing_plan(one, other) == {"images": (8, 9)}
    assert differing_splits(one, other) == ["train"]
