"""How nn.DataParallel cuts a pass; test_strategy.py trains with it."""

from __future__ import annotations

import torch
from torch import nn

from signs_dist.distributed.replicas import Replicas

CPU = torch.device("cpu")


def test_each_gpu_gets_one_whole_micro_batch() -> None:
    replicas = Replicas(nn.Identity(), [])
    images, labels = torch.arange(6.0).view(6, 1), torch.arange(6)
    parts, named = replicas.scatter((images, labels, [70, 71, 72]), None, [CPU, CPU, CPU])
    assert [(part.flatten().tolist(), truth.tolist(), keys) for part, truth, keys in parts] == [
        ([0, 1], [0, 1], [70]),
        ([2, 3], [2, 3], [71]),
        ([4, 5], [4, 5], [72]),
    ]
    assert named == ({}, {}, {})


def test_a_pass_of_fewer_micro_batches_uses_fewer_gpus() -> None:
    parts, _ = Replicas(nn.Identity(), []).scatter((torch.zeros(4, 1), torch.zeros(4), [1, 2]), None, [CPU] * 3)
    assert len(parts) == 2
