"""Buffers move once a step, by the mean over the micro-batches."""

from __future__ import annotations

import torch
from torch import nn

from signs_dist.distributed.moving_buffers import Buffers, flat_buffers


def test_floating_point_buffers_move_by_what_is_asked_and_counters_count_once() -> None:
    norm = nn.BatchNorm1d(2)
    buffers = Buffers(norm)
    assert buffers.size == 4
    images = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    for number in range(3):
        buffers.before(is_first=number == 0)
        norm(images + number)
        buffers.after(None)
    buffers.move(buffers.moved / 3)
    assert norm.running_mean is not None
    assert norm.num_batches_tracked is not None
    torch.testing.assert_close(norm.running_mean, 0.1 * torch.tensor([3.0, 5.0]))  # means 2, 3, 4 and 4, 5, 6
    assert int(norm.num_batches_tracked) == 1


def test_the_replicas_of_data_parallel_count_each() -> None:
    norm = nn.BatchNorm1d(1)
    buffers = Buffers(norm)
    buffers.before(is_first=True)
    buffers.after(torch.tensor([[2.0, 1.0], [4.0, 3.0]]))  # from mean 0 and variance 1
    assert buffers.moved.tolist() == [6.0, 2.0]


def test_all_floating_point_buffers_are_one_vector() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(1))
    assert flat_buffers(network, torch.device("cpu")).tolist() == [0, 0, 1, 1, 0, 1]
    assert flat_buffers(nn.Linear(1, 1), torch.device("cpu")).tolist() == []
