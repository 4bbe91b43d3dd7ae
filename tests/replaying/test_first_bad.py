"""Which layer is named where numbers stop being finite."""

from __future__ import annotations

import pytest

from signs_dist.replaying.first_bad import find_first_bad
from signs_dist.replaying.records import IMAGES, LOSS, Event
from tests.replaying.test_records import make_micro_batch, make_step

GOOD = [
    Event(IMAGES, "forward", (2, 3, 4, 4), 1.0, 0),
    Event("first", "forward", (2, 5), 3e38, 0),
    Event("head", "forward", (2, 3), 2.0, 0),
    Event(LOSS, "forward", (2,), 2.5, 0),
    Event("head", "backward", (2, 3), 0.5, 0),
    Event("head.weight", "gradient", (3, 5), 0.1, 0),
    Event("first", "backward", (2, 5), 0.2, 0),
    Event("first.weight", "gradient", (5, 48), 0.3, 0),
]


def events_with_bad(*bad: int) -> list[Event]:
    return [
        Event(event.name, event.direction, event.shape, event.largest, 1 if place in bad else 0)
        for place, event in enumerate(GOOD)
    ]


def test_nothing_is_named_where_all_is_finite() -> None:
    assert find_first_bad([make_step(make_micro_batch(events=GOOD))]) is None


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ((0, 1, 2, 3), "the images are not finite before they go into the network (1 of 96 values is NaN or infinite)"),
        ((1, 2, 3), "first is the first layer whose output is not finite, forward (1 of 10 values is NaN or infinite"),
        ((2, 3, 4), "head is the first layer whose output is not finite, forward (1 of 6 values is NaN or infinite"),
        ((2, 3, 4), "the largest value before it is 3e+38"),
        ((3, 4), "the loss function is the first whose output is not finite (1 of 2 values"),
        ((6, 7), "the gradient at the output of first is the first that is not finite, backward (1 of 10"),
        ((4, 5), "the gradient at the output of head is the first that is not finite, backward (1 of 6"),
        (
            (5, 6),
            "the gradient of head.weight is the first that is not finite, backward; the one before, at the output",
        ),
        (
            (7,),
            "; the one before, at the output of first, is finite (1 of 240 values is NaN or infinite)",
        ),
        ((7,), "All of forward is finite"),
    ],
)
def test_the_first_is_named(bad: tuple[int, ...], told: str) -> None:
    step = make_step(make_micro_batch(), make_micro_batch(3, events=events_with_bad(*bad)), number=9)
    found = find_first_bad([make_step(make_micro_batch(), number=8), step])
    assert found is not None
    assert (found.step, found.micro_batch) == (9, 3)
    assert told in found.describe()


def test_weights_that_were_not_finite_before_are_named_with_their_layer() -> None:
    step = make_step(
        make_micro_batch(events=events_with_bad(1, 2)), bad_weights=["first.weight", "first_norm.running_mean"]
    )
    found = find_first_bad([step])
    assert found is not None
    assert found.bad_weights == ("first.weight",)
    assert "forward, whose first.weight is not finite (" in found.describe()


def test_a_second_call_of_a_layer_has_the_weights_of_the_layer() -> None:
    events = [Event("block.first#2", "forward", (2,), 1.0, 2)]
    found = find_first_bad([make_step(make_micro_batch(events=events), bad_weights=["block.first.bias"])])
    assert found is not None
    assert found.bad_weights == ("block.first.bias",)
