"""What a replay saw, as text and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from signs_dist.replaying.evidence import Compared, Verdict
from signs_dist.replaying.first_bad import find_first_bad
from signs_dist.replaying.records import Event
from signs_dist.replaying.request import FailedMicroBatch
from signs_dist.replaying.told import (
    MOST_SAMPLES,
    NUM_WORST,
    as_json,
    describe_failure,
    describe_step,
    describe_verdict,
    layer_rows,
)
from tests.replaying.test_records import make_micro_batch, make_step

CLASSES = ["zero", "one", "two"]
FILES = {4: "a/0.jpg", 2: "b/1.jpg"}


def test_layers_are_over_all_micro_batches_with_their_parameters() -> None:
    larger = [Event("first", "forward", (2, 5), 9.0, 2), Event("new", "forward", (2, 1), 3.0, 0)]
    rows = layer_rows([make_micro_batch(), make_micro_batch(1, events=larger)])
    assert [(row.name, row.output, row.gradient, row.weight_gradient, row.num_bad) for row in rows] == [
        ("first", 9.0, 0.25, 0.125, 2),
        ("new", 3.0, None, None, 0),
    ]


def test_a_parameter_outside_of_all_layers_has_a_row() -> None:
    rows = layer_rows([make_micro_batch(events=[Event("token", "gradient", (5,), 0.5, 0)])])
    assert [(row.name, row.output, row.weight_gradient) for row in rows] == [("token", None, 0.5)]


def test_a_step_shows_its_numbers_images_and_layers() -> None:
    step = make_step(make_micro_batch(), unclipped_norm=2.5)
    text = "\n".join(describe_step(step, FILES, CLASSES, 1.0))
    assert "step 7 (epoch 2, step 3): learning rate 0.1, gradient norm 2.5, 0.5 after clipping to 1" in text
    assert "learning rate 0.1, gradient norm 0.5\n" in "\n".join(describe_step(step, FILES, CLASSES, None))
    assert "0            2       1.5   50.0 %    0.75" in text
    assert "0            2       one    zero       2.5   b/1.jpg" in text
    assert "first  2×5     1.5             0.25            0.125" in text
    assert "not finite" not in text


def test_what_is_not_finite_is_shown() -> None:
    bad = make_micro_batch(
        events=[Event("first", "forward", (2, 5), 1.5, 3)],
        losses=torch.tensor([math.nan, 1.0]),
        logits=torch.full((2, 3), math.nan),
    )
    step = make_step(bad, gradient_norm=None, bad_weights=[f"w{number}" for number in range(7)])
    text = "\n".join(describe_step(step, FILES, CLASSES, None))
    assert "The optimizer made no step" in text
    assert "not finite before the step: w0, w1, w2, w3, w4 and 2 more" in text
    assert "first  2×5     1.5             -               -              3" in text
    assert "0            4       zero   not finite  nan   a/0.jpg" in text


def test_of_many_images_the_worst_are_shown() -> None:
    many = make_micro_batch(
        samples=list(range(100)),
        labels=[0] * 100,
        targets=torch.zeros(100, dtype=torch.int64),
        logits=torch.zeros(100, 3),
        losses=torch.tensor([*map(float, range(99)), math.nan]),
    )
    assert len(many.samples) > MOST_SAMPLES
    text = "\n".join(describe_step(make_step(many), {number: f"{number}.jpg" for number in range(100)}, CLASSES, None))
    assert f"the {NUM_WORST} images with the largest losses of 100" in text
    assert "99.jpg" in text  # not a number is the worst
    assert "\n0            98 " in text
    assert "83.jpg" not in text


def test_of_many_micro_batches_the_worst_are_shown() -> None:
    numbers = range(10_000)
    losses = [math.nan if number == 77 else float(number % 5000) for number in numbers]
    many = [make_micro_batch(number, losses=torch.full((2,), losses[number])) for number in numbers]
    lines = "\n".join(describe_step(make_step(*many), FILES, CLASSES, None)).split("\n")
    assert f"the {NUM_WORST} micro-batches with the largest losses of 10,000; all: --json FILE" in lines
    assert any(line.startswith("77           2       nan") for line in lines)
    assert any(line.startswith("9999         2       4999") for line in lines)
    assert len(lines) < 50


def test_mixed_images_show_their_shares() -> None:
    mixed = make_micro_batch(targets=torch.tensor([[0.25, 0.75, 0], [1.0, 0, 0]]))
    text = "\n".join(describe_step(make_step(mixed), FILES, CLASSES, None))
    assert "one 75 % + zero 25 %" in text


def test_json_has_no_number_that_is_not_finite() -> None:
    bad = make_micro_batch(events=[Event("first", "forward", (2, 5), 1.5, 3)], losses=torch.tensor([math.nan, 1.0]))
    step = make_step(bad, gradient_norm=None)
    verdict = Verdict("same bits", ["why"])
    value = as_json({"run": "r"}, [step], FILES, CLASSES, find_first_bad([step]), verdict)
    read = json.loads(json.dumps(value, allow_nan=False))
    assert (read["run"], read["verdict"], read["first_not_finite"]["layer"]) == ("r", "same bits", "first")
    assert read["steps"][0]["micro_batches"][0]["loss"] is None
    assert [image["file"] for image in read["steps"][0]["micro_batches"][0]["images"]] == ["a/0.jpg", "b/1.jpg"]


def test_the_verdict_is_one_line() -> None:
    verdict = Verdict("other bits", ["one", "two"])
    assert describe_verdict(verdict, 1234, 1234).startswith("step 1,234: THE BITS ARE NOT THOSE OF THE RUN")
    assert describe_verdict(verdict, 3, 5).endswith("be: one; two")
    assert describe_verdict(verdict, 3, 5).startswith("steps 3 to 5: ")


FAILED = [FailedMicroBatch(2, 3, 0, (4, 2))]
EXACT = Compared(is_exact=True, same_bits=True, same_images=True)


def test_a_failure_that_came_again() -> None:
    step = make_step(make_micro_batch(losses=torch.tensor([math.nan, 1.0])))
    is_again, told = describe_failure(FAILED, step, EXACT, 6)
    assert is_again
    assert "names epoch 2, step 3, micro-batch 0: here the loss is not finite in micro-batch 0 of step 7" in told


def test_a_failure_in_another_micro_batch_than_the_one_that_was_looked_at() -> None:
    step = make_step(make_micro_batch(3), gradient_norm=None)  # the optimizer made no step: its loss is not finite
    is_again, told = describe_failure(FAILED, step, EXACT, 6)
    assert is_again
    assert "in another micro-batch than 3. Omit --micro-batch, or type --micro-batch 0" in told


@pytest.mark.parametrize(
    ("samples", "compared", "last_recorded", "why"),
    [
        ((4, 2), EXACT, 6, "a fault of that machine, can be why"),
        ((4, 9), EXACT, 6, "the file names other images than this step has now"),
        ((4, 2), dataclasses.replace(EXACT, same_images=False), 6, "the training images are not those of the run"),
        ((4, 2), EXACT, 9, "the run has trained past this step since"),
        ((4, 2), dataclasses.replace(EXACT, same_bits=False, differences=["GPU"]), 6, "computes other bits (GPU)"),
        ((4, 2), dataclasses.replace(EXACT, is_exact=False, same_bits=None), 6, "the run is not exact"),
    ],
)
def test_a_failure_that_did_not_come_again(
    samples: tuple[int, ...], compared: Compared, last_recorded: int, why: str
) -> None:
    failed = [FailedMicroBatch(2, 3, 0, samples)]
    is_again, told = describe_failure(failed, make_step(make_micro_batch()), compared, last_recorded)
    assert not is_again
    assert "here the loss of this step is finite. Why that can be: " in told
    assert why in told
