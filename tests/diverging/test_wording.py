"""What people read of a difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from signs_dist.diverging.blame import Before, Place
from signs_dist.diverging.brackets import Bracket
from signs_dist.diverging.facts import Start
from signs_dist.diverging.orders import Subject
from signs_dist.diverging.running import Outcome
from signs_dist.diverging.wording import (
    describe_before,
    describe_bracket,
    describe_fast_mode,
    describe_place,
    describe_recorded_arithmetic,
    describe_saved_state,
    describe_subjects,
)


def test_the_first_difference_in_a_layer() -> None:
    place = Place(23, 2, 3, "backward", 1, "conv2", "conv2.weight")
    assert describe_place(place, [], 4) == [
        "first difference: step 23 (epoch 2, step 3 of the epoch), micro-batch 2 of 4, layer conv2, backward",
        "  the loss has equal bits, the backward pass gives other ones",
        "  first in conv2.weight",
    ]


def test_images_are_named() -> None:
    place = Place(1, 1, 1, "input", 0, samples=(4, 9, 12))
    assert describe_place(place, ["a.jpg", "b.jpg"])[2] == "  samples 4 (a.jpg), 9 (b.jpg) and 1 more"


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"entries": {"lr": (0.1, 0.2)}}, "  the optimizer's settings in this step differ: lr 0.1 → 0.2"),
        ({"odd": ("process 1 of B",)}, "  processes of one side do not agree: process 1 of B"),
        (
            {"unsteady": {"B": "fc, forward"}},
            "  B does not repeat its own bits: done again from the same state, fc, forward differs",
        ),
        (
            {"vanished": True},
            "  done again from the same state, it did not differ: some operation gives other bits from call to call",
        ),
        ({"errors": ("", "not finite")}, "  B ended in this step: not finite"),
    ],
)
def test_what_is_known_of_the_reason(more: dict[str, Any], line: str) -> None:
    assert describe_place(Place(1, 1, 1, "optimizer", **more), [])[-1] == line


def test_what_differs_before_the_first_step() -> None:
    before = Before(
        arithmetic=["threads 1 → 2"],
        settings={"optim.lr": [0.1, 0.2], "seed": [0, 1]},
        data=["train"],
        plan={"images": (8, 9)},
        weights=["a", "b", "c", "d"],
        toolkits=("/one", "/other"),
    )
    assert describe_before(before, [f"{number}.jpg: only in A" for number in range(7)]) == [
        "the arithmetic of both sides differs here: threads 1 → 2",
        "the toolkit differs: A runs /one, B runs /other",
        "the settings differ in",
        "  optim.lr  0.1 → 0.2",
        "  seed      0 → 1",
        "the plan differs: images 8 → 9",
        "the images differ: train",
        *(f"  {number}.jpg: only in A" for number in range(5)),
        "  and 2 more",
        "the weights before the first step differ: a, b, c and 1 more",
    ]
    assert describe_before(Before([], {}, [], {}, None), []) == []


@pytest.mark.parametrize(
    ("bracket", "text"),
    [
        (Bracket(0, None, 0), "no state that both have saved"),
        (Bracket(0, 20, 1), "1 saved state compared: none is equal, different after step 20"),
        (Bracket(20, 40, 3), "3 saved states compared: equal up to step 20, different after step 40"),
        (Bracket(40, None, 2), "2 saved states compared: equal up to step 40, none differs"),
    ],
)
def test_what_the_saved_states_show(bracket: Bracket, text: str) -> None:
    assert describe_bracket(bracket) == text


def test_other_arithmetic_is_told_first() -> None:
    assert describe_recorded_arithmetic(["threads 1 → 2"], is_same=True) == []
    assert describe_recorded_arithmetic([], is_same=None) == []
    assert describe_recorded_arithmetic(["torch 2 → 3"], is_same=False) == [
        "A and B were trained with other arithmetic: torch 2 → 3"
    ]
    assert "perhaps other arithmetic" in describe_recorded_arithmetic(["torch 2 → 3"], is_same=None)[0]


def test_both_sides_are_shown() -> None:
    left = Subject(1, config=Path("c.yaml"), overrides=("exact=true",))
    right = Subject(3, config=Path("c.yaml"), overrides=("exact=true", "seed=1"), code=Path("other"))
    assert describe_subjects((left, right)) == [
        "settings: --config c.yaml exact=true",
        "A  1 process",
        "B  3 processes, seed=1, code of other",
    ]
    runs = Subject(1, run=Path("runs/a")), Subject(2, run=Path("runs/b"))
    assert describe_subjects(runs) == ["A  runs/a, 1 process", "B  runs/b, 2 processes"]


@pytest.mark.parametrize(
    ("is_exact", "processes", "told"),
    [
        (True, (1, 2), ""),
        (False, (1, 2), "This is fast mode: other processes add the gradients in another order"),
        (False, (2, 2), "This is fast mode, which promises no equal bits"),
    ],
)
def test_fast_mode_is_told_as_what_it_is(is_exact: bool, processes: tuple[int, int], told: str) -> None:
    start = Start(0, "/a", is_exact, "float32", 0, {}, {}, {}, {}, {})
    before = Before([], {}, [], {}, [])
    outcome = Outcome((start, start), before, [], 1, 1, Place(1, 1, 1, "reduction"), [])
    subjects = Subject(processes[0]), Subject(processes[1])
    lines = describe_fast_mode(outcome, subjects, "the command")
    assert [line[: len(told)] for line in lines[:1]] == ([told] if told else [])
    assert lines[1:] == (["  the command"] if told else [])


def test_fast_mode_may_be_why_a_saved_state_is_not_repeated() -> None:
    exact, fast = (describe_saved_state("A", repeats=False, is_exact=each) for each in (True, False))
    assert "it had other arithmetic, images or code when it trained" in exact
    assert "it had other processes, threads, arithmetic, images or code when it trained" in fast
    assert fast.endswith("Fast mode promises no equal bits")
    assert "fast" not in exact.lower()
    assert describe_saved_state("B", repeats=True, is_exact=False).startswith("B: its saved state is what its config")


@pytest.mark.parametrize("run", [None, Path("runs/a")])
def test_fast_mode_does_not_explain_what_the_settings_change(run: Path | None) -> None:
    start = Start(0, "/a", False, "float32", 0, {}, {}, {}, {}, {})
    before = Before([], {"optim.lr": (0.1, 0.2)}, [], {}, [])
    outcome = Outcome((start, start), before, [], 1, 1, Place(1, 1, 1, "optimizer"), [])
    lines = describe_fast_mode(outcome, (Subject(1, run=run), Subject(2, run=run)), "the command")
    assert lines[0].startswith("This is fast mode: beside what the settings change, bits may differ by rounding.")
    assert "That is no fault" not in lines[0]
    assert lines[1:] == (["  the command"] if run is None else [])
    assert ("train both with exact=true" in lines[0]) == (run is not None)
