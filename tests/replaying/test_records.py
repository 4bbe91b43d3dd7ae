"""What was seen of steps, as values and back, and of several processes together."""

from __future__ import annotations

import dataclasses
import io
import math

import torch

from signs_dist.replaying.records import Event, MicroBatch, Step, from_plain, merged, to_plain


def make_micro_batch(number: int = 0, **changes: object) -> MicroBatch:
    values = MicroBatch(
        number=number,
        samples=[4, 2],
        labels=[0, 1],
        images=torch.full((2, 3, 4, 4), 0.5),
        targets=torch.tensor([0, 1]),
        logits=torch.tensor([[2.0, 1.0, 0.0], [3.0, 1.0, 0.0]]),
        losses=torch.tensor([0.5, 2.5]),
        events=[
            Event("first", "forward", (2, 5), 1.5, 0),
            Event("first", "backward", (2, 5), 0.25, 0),
            Event("first.weight", "gradient", (5, 7), 0.125, 0),
        ],
        gradient_norm=0.75,
    )
    return dataclasses.replace(values, **changes)  # type: ignore[arg-type]


def make_step(*micro_batches: MicroBatch, number: int = 7, **changes: object) -> Step:
    step = Step(number, 2, 3, 0.1, list(micro_batches), [], [], 0.5)
    return dataclasses.replace(step, **changes)  # type: ignore[arg-type]


def test_a_micro_batch_tells_loss_predictions_and_accuracy() -> None:
    one = make_micro_batch()
    assert (one.loss, one.predictions, one.accuracy) == (1.5, [0, 0], 0.5)
    assert one.is_finite


def test_of_mixed_images_the_largest_share_counts() -> None:
    one = make_micro_batch(targets=torch.tensor([[0.2, 0.8, 0], [0.9, 0.1, 0]]))
    assert (one.target_classes, one.accuracy) == ([1, 0], 0.5)


def test_logits_that_are_not_finite_predict_nothing() -> None:
    logits = torch.tensor([[math.nan, 1.0, 0.0], [3.0, 1.0, 0.0]])
    one = make_micro_batch(logits=logits, losses=torch.tensor([math.nan, 1.0]))
    assert one.predictions == [-1, 0]
    assert not one.is_finite
    assert not make_step(one).has_finite_loss


def test_a_step_is_not_finite_if_its_weights_or_gradients_are_not() -> None:
    whole = make_step(make_micro_batch())
    assert whole.is_finite
    assert not dataclasses.replace(whole, bad_after=["first.weight"]).is_finite
    bad = make_micro_batch(events=[Event("first", "backward", (2, 5), 0.0, 1)])
    assert not make_step(bad).is_finite
    assert make_step(bad).has_finite_loss


def test_they_travel_through_a_file() -> None:
    step = make_step(
        make_micro_batch(gradients={"first.weight": torch.ones(5, 7)}), weights_before={"a": torch.ones(2)}
    )
    stream = io.BytesIO()
    torch.save(to_plain([step]), stream)
    stream.seek(0)
    (found,) = from_plain(torch.load(stream, weights_only=True))
    assert found.micro_batches[0].events == step.micro_batches[0].events
    assert found.micro_batches[0].gradients is not None
    assert torch.equal(found.micro_batches[0].gradients["first.weight"], torch.ones(5, 7))
    assert (found.step, found.epoch, found.step_of_epoch, found.gradient_norm) == (7, 2, 3, 0.5)


def test_micro_batches_of_processes_are_put_in_order() -> None:
    first = make_step(make_micro_batch(0), make_micro_batch(1))
    second = make_step(make_micro_batch(2))
    (step,) = merged([[second], [first]])
    assert [each.number for each in step.micro_batches] == [0, 1, 2]
