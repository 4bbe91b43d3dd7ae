"""Sums against a plain loop, the Wilson interval against published values, and exact transfer to the host."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from signs_dist.learning.metrics import RunningSums, Score, to_host, wilson_interval


def test_sums_are_those_of_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    sums = RunningSums(4, torch.device("cpu"))
    loss_sum, confusion = 0.0, [[0] * 4 for _ in range(4)]
    for size in (5, 1, 32, 7):
        logits = torch.randn(size, 4, generator=generator)
        labels = torch.randint(0, 3, (size,), generator=generator)  # class 3 has no images
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        sums.add(losses.requires_grad_(), logits, labels)
        for row in range(size):
            scores = logits[row].tolist()
            loss_sum += losses[row].item()
            confusion[labels[row]][scores.index(max(scores))] += 1
    score = Score.from_sums(to_host(sums.tensors()))
    assert score.confusion.tolist() == confusion
    assert score.num_images == 45
    assert score.num_correct == sum(confusion[label][label] for label in range(4))
    assert score.accuracy == score.num_correct / 45
    assert score.loss == pytest.approx(loss_sum / 45, abs=3e-8)
    shares = score.class_accuracies()
    assert shares[:3] == [confusion[label][label] / sum(confusion[label]) for label in range(3)]
    assert math.isnan(shares[3])
    assert score.accuracy_interval() == wilson_interval(score.num_correct, 45)


def score_of(losses: Sequence[float], dtype: torch.dtype = torch.float32) -> Score:
    """The score of images of one class with these losses, each a batch of its own."""
    sums = RunningSums(2, torch.device("cpu"))
    for loss in losses:
        sums.add(torch.tensor([loss], dtype=dtype), torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    return Score.from_sums(to_host(sums.tensors()))


def test_small_losses_are_not_lost_in_a_large_sum() -> None:
    many = [2.0**14] * 1024 + [1.0] * 3  # 2**24 + 3: float32 would stay at 2**24
    assert score_of(many).loss_sum == 2.0**24 + 3


@pytest.mark.parametrize(
    ("loss", "counted"),
    [
        (0.0, 0.0),
        (2.0**-24, 2.0**-24),
        (2.0**-26, 0.0),
        (-(2.0**-24), -(2.0**-24)),
        (1 + 2.0**-23, 1 + 2.0**-23),
        (0.1, round(0.1 * 2**24) / 2**24),
        (16384.0, 16384.0),
        (1e30, 16384.0),
        (-1e30, -16384.0),
    ],
)
def test_a_loss_is_rounded_to_a_fine_grid_and_clamped(loss: float, counted: float) -> None:
    score = score_of([loss], torch.float64)
    assert score.loss_sum == counted
    assert score.loss == counted
    assert score.num_bad == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_counted_and_spoils_the_mean_only(bad: float) -> None:
    score = score_of([1.5, bad, 2.5, bad])
    assert (score.num_bad, score.loss_sum, score.num_images, score.num_correct) == (2, 4.0, 4, 4)
    assert math.isnan(score.loss)
    assert score.accuracy == 1.0


def test_sums_do_not_depend_on_the_order_nor_on_the_batches() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 20 * torch.randn(500, 3, generator=generator)
    labels = torch.randint(0, 3, (500,), generator=generator)
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    found, float_sums = set(), set()
    for batch in (1, 7, 64, 500):
        rows = torch.randperm(500, generator=generator)
        sums, float_sum = RunningSums(3, torch.device("cpu")), 0.0
        for part in rows.split(batch):
            sums.add(losses[part], logits[part], labels[part])
            float_sum += losses[part].sum().item()
        host = to_host(sums.tensors())
        found.add(tuple((name, tuple(numbers.reshape(-1).tolist())) for name, numbers in host.items()))
        float_sums.add(float_sum)
    assert len(found) == 1
    assert len(float_sums) > 1  # what plain sums do


def test_half_precision_losses_are_summed_in_full() -> None:
    sums = RunningSums(2, torch.device("cpu"))
    sums.add(torch.full((4096,), 1.0, dtype=torch.bfloat16), torch.zeros(4096, 2), torch.zeros(4096, dtype=torch.int64))
    assert Score.from_sums(to_host(sums.tensors())).loss_sum == 4096


def test_no_images_give_no_number() -> None:
    score = Score.from_sums(to_host(RunningSums(3, torch.device("cpu")).tensors()))
    assert (score.num_images, score.num_correct) == (0, 0)
    assert math.isnan(score.accuracy)
    assert math.isnan(score.loss)
    assert all(math.isnan(share) for share in score.class_accuracies())
    assert score.accuracy_interval() == (0.0, 1.0)


def test_the_way_to_the_host_is_exact() -> None:
    tensors = {
        "large": torch.tensor([2**63 - 1, -(2**63), 2**53 + 1]),
        "scalar": torch.tensor(7),
        "none": torch.zeros(0, 3, dtype=torch.int64),
        "layout": torch.arange(6).reshape(2, 3).t(),
    }
    host = to_host(tensors)
    assert list(host) == list(tensors)
    for name, tensor in tensors.items():
        assert host[name].dtype == np.int64
        assert host[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(host[name], tensor.numpy())


def test_only_counts_go_to_the_host() -> None:
    with pytest.raises(AssertionError):
        to_host({"loss": torch.tensor(0.5)})


def test_all_sums_are_integers() -> None:
    tensors = RunningSums(3, torch.device("cpu")).tensors()
    assert {name: tensor.dtype for name, tensor in tensors.items()} == dict.fromkeys(
        ("loss", "confusion", "bad"), torch.int64
    )


@pytest.mark.parametrize(
    ("confusion", "expected"),
    [
        ([[4, 0], [0, 4]], 1.0),
        ([[4, 0], [4, 0]], (8 / 12 + 0) / 2),
        ([[3, 1, 0], [1, 2, 1], [0, 0, 4]], (6 / 8 + 4 / 7 + 8 / 9) / 3),
        # The third class has no images: no share in the mean, and the image taken for it is a miss of the first.
        ([[3, 0, 1], [0, 4, 0], [0, 0, 0]], (6 / 7 + 1) / 2),
        ([[0, 0], [0, 0]], math.nan),
    ],
)
def test_macro_f1(confusion: list[list[int]], expected: float) -> None:
    score = Score(0.0, np.array(confusion, dtype=np.int64))
    assert score.macro_f1 == pytest.approx(expected, nan_ok=True)


def test_of_shares_the_largest_is_the_true_class() -> None:
    sums = RunningSums(3, torch.device("cpu"))
    logits = torch.tensor([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0]])
    sums.add(torch.ones(2), logits, torch.tensor([[0.6, 0.4, 0.0], [0.7, 0.3, 0.0]]))
    score = Score.from_sums(to_host(sums.tensors()))
    assert score.confusion.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
