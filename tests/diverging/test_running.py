"""Training two sides step by step: faults of one process each are named, and what is told of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from signs_dist.distributed.step_sync import ExactSync
from signs_dist.diverging.facts import Step, describe_protocol
from signs_dist.diverging.orders import read_words
from signs_dist.diverging.running import (
    NUM_AGAIN,
    _compare,
    compare_images,
    describe_before,
    require_same_protocol,
)
from signs_dist.errors import TrainingFailedError, UserError
from signs_dist.learning.weight_average import WeightAverage
from tests.diverging.faults import BY_SETTINGS, IN_LAYERS, Fault, base_settings, net
from tests.diverging.offline import Recorded, find_place, record
from tests.diverging.test_blame import DETAIL, STEP
from tests.diverging.test_facts import START
from tests.sets import write_colour_set

SOME = [
    *(fault for fault in IN_LAYERS if fault.processes == (1, 1) and fault.step == 2),
    Fault(net("shaky@conv2", 2, 5), "forward", 2, 5, "conv2", unsteady=True),
    Fault(net("reduction@bn1.weight", 2), "reduction", 2, None, "bn1", "bn1.weight"),
    Fault(net("average@fc.bias", 2), "average", 2),
    *(
        fault
        for fault in BY_SETTINGS
        if fault.processes == (1, 1) and fault.right in ("optim.lr=0.05", "loss.label_smoothing=0.2")
    ),
]
NUM_STEPS = 2
WANTED = (None, 0, 1, 5)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 8, "val": 2})


@pytest.fixture(autouse=True)
def toolkit_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some faults change the toolkit in this process."""
    monkeypatch.setattr(ExactSync, "finish", ExactSync.finish)
    monkeypatch.setattr(WeightAverage, "update", WeightAverage.update)


@pytest.fixture(scope="module")
def right_side(colours: Path) -> Recorded:
    return record(base_settings(colours), NUM_STEPS, WANTED)


@pytest.mark.parametrize("fault", SOME, ids=lambda fault: fault.name)
def test_a_fault_is_named(fault: Fault, colours: Path, right_side: Recorded) -> None:
    settings = [*base_settings(colours), *read_words(fault.right, "--right")[1]]
    place = find_place(right_side, record(settings, NUM_STEPS, WANTED))
    assert place is not None
    assert (place.direction, place.number, place.micro_batch) == (fault.direction, fault.step, fault.micro_batch)
    assert not fault.layer or place.layer == fault.layer
    assert not fault.entry or fault.entry in place.entries
    assert bool(place.unsteady) == fault.unsteady
    assert not place.vanished


def test_a_run_repeats_its_bits_also_after_a_step_was_done_again(colours: Path, right_side: Recorded) -> None:
    plain = record(base_settings(colours), NUM_STEPS, ())
    assert find_place(right_side, plain) is None
    assert plain.script.details == {}
    assert describe_before(right_side.start, plain.start).weights == []


def test_images_that_differ() -> None:
    ours = [["a.jpg", 0, "1"], ["b.jpg", 1, "2"], ["c.jpg", 1, "3"]]
    theirs = [["b.jpg", 2, "2"], ["c.jpg", 1, "x"], ["d.jpg", 0, "4"]]
    assert compare_images(ours, theirs) == [
        "a.jpg: only in A",
        "b.jpg: class 1 in A, 2 in B",
        "c.jpg: other contents",
        "d.jpg: only in B",
    ]


class FakeSide:
    """A side of one process that answers from a list of steps."""

    def __init__(self, steps: Sequence[Step], first: int = 1) -> None:
        self.steps_done = 0
        self.told: list[str] = []
        self._steps = {step.number: step for step in steps}
        self._start = dataclasses.replace(START, steps_done=first - 1)
        self._answers: list[Any] = [self._start]

    def tell(self, value: Mapping[str, Any]) -> None:
        self.told.append(value["do"])
        if value["do"] == "step":
            self._answers.append(self._steps[self.steps_done + 1])
        elif value["do"] == "again":
            self._answers.append(DETAIL)
        else:
            self._answers.append({"states": ["digest"]})

    def hear(self) -> list[dict[str, Any]]:
        answer = self._answers.pop(0)
        return [answer if isinstance(answer, dict) else dataclasses.asdict(answer)]

    def ask_main(self, value: Mapping[str, Any]) -> dict[str, Any]:
        self.told.append(value["do"])
        return {"names": [f"{sample}.jpg" for sample in value["samples"]]}


def numbered(last: int, differs_at: int | None = None, **changes: Any) -> list[Step]:
    return [
        dataclasses.replace(STEP, number=number, **(changes if number == differs_at else {}))
        for number in range(1, last + 1)
    ]


def test_each_side_does_the_steps_once_and_two_more() -> None:
    left, right = FakeSide(numbered(9)), FakeSide(numbered(9, 7, summed="x"))
    outcome = _compare(left, right, until=9, wants_states=True)  # type: ignore[arg-type]
    assert outcome.place is not None
    assert (outcome.place.number, outcome.place.direction) == (7, "reduction")
    assert left.told == right.told == ["step"] * 7 + ["again"] * 2
    assert NUM_AGAIN <= 3


def test_a_side_that_begins_earlier_catches_up_first() -> None:
    left, right = FakeSide(numbered(9)), FakeSide(numbered(9, 5, summed="x"), first=5)
    outcome = _compare(left, right, until=9, wants_states=False)  # type: ignore[arg-type]
    assert (outcome.first, outcome.last) == (5, 5)
    assert (left.told.count("step"), right.told.count("step")) == (5, 1)
    assert outcome.before.weights is None


def test_images_that_differ_are_named_without_a_step_more() -> None:
    parts = [dataclasses.replace(part, images=["x", "i9"]) for part in STEP.parts]
    left, right = FakeSide(numbered(2)), FakeSide(numbered(2, 2, parts=parts))
    outcome = _compare(left, right, until=2, wants_states=False)  # type: ignore[arg-type]
    assert outcome.names == ["4.jpg"]
    assert left.told == ["step", "step", "names"]


def test_both_may_end_alike_and_equal_sides_tell_their_states() -> None:
    left, right = (FakeSide(numbered(4, 3, error="not finite")) for _ in range(2))
    outcome = _compare(left, right, until=4, wants_states=True)  # type: ignore[arg-type]
    assert (outcome.place, outcome.ended, outcome.last, outcome.states) == (None, "not finite", 3, None)
    left, right = (FakeSide(numbered(4)) for _ in range(2))
    outcome = _compare(left, right, until=4, wants_states=True)  # type: ignore[arg-type]
    assert (outcome.place, outcome.last, outcome.states) == (None, 4, (["digest"], ["digest"]))


def test_a_side_that_ends_before_the_other_begins_is_no_equal_run() -> None:
    left, right = FakeSide(numbered(9, 3, error="not finite")), FakeSide(numbered(9), first=5)
    with pytest.raises(TrainingFailedError, match="ended in step 3, before the first step that both do: not finite"):
        _compare(left, right, until=9, wants_states=False)  # type: ignore[arg-type]


def test_a_side_of_another_release_is_refused() -> None:
    require_same_protocol("A", describe_protocol())
    for protocol in (None, f"{describe_protocol()} more"):
        with pytest.raises(UserError, match=r"side B runs another release of signs_dist.*Give --right-code a folder"):
            require_same_protocol("B", protocol)
