"""What recorded processes write down, and how it is put together."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.models.weights import named_weights
from signs_dist.rehearsal.records import Pass, read_record, write_passes, write_weights


def test_the_passes_of_all_processes_make_one_record(tmp_path: Path) -> None:
    third = 1 / 3
    write_passes(tmp_path, 0, [Pass(0, 0, 0, [4, 2], ["d", "b"], third), Pass(1, 0, 0, [7], ["g"], 1.0)], "float32")
    write_passes(
        tmp_path,
        1,
        [Pass(0, 1, 0, [5], ["e"], 0.25), Pass(0, 0, 2, [1], ["a"], 1.0), Pass(1, 0, 1, [8], ["h"], math.nan)],
        "float32",
    )
    model = nn.Linear(2, 3)
    write_weights(tmp_path, model)
    record = read_record(tmp_path, 2)
    assert (record.world_size, record.precision) == (2, "float32")
    assert record.samples == [[4, 2, 1], [5], [7, 8]]
    assert record.images == [["d", "b", "a"], ["e"], ["g", "h"]]
    assert record.losses[:2] == [1 + third, 0.25]
    assert math.isnan(record.losses[2])
    assert record.weights_sha256 == weights_sha256(named_weights(model))
    assert torch.equal(record.weights["weight"], model.weight)
