"""The file of --save is read without running code, and has all tensors."""

from __future__ import annotations

from pathlib import Path

import torch

from signs_dist.replaying.saved import save_tensors
from tests.replaying.test_records import make_micro_batch, make_step


def test_tensors_are_read_back(tmp_path: Path) -> None:
    micro_batch = make_micro_batch(gradients={"first.weight": torch.ones(5, 7)})
    step = make_step(micro_batch, gradients={"first.weight": torch.ones(5, 7)}, weights_before={"a": torch.zeros(2)})
    save_tensors(tmp_path / "out.pt", Path("runs/a"), [step], {4: "a.jpg", 2: "b.jpg"}, ["zero", "one"])
    content = torch.load(tmp_path / "out.pt", weights_only=True)
    assert (content["format"], content["run"], content["classes"]) == (1, "runs/a", ["zero", "one"])
    (read,) = content["steps"]
    assert (read["step"], read["weights_after"]) == (7, None)
    assert torch.equal(read["weights_before"]["a"], torch.zeros(2))
    (one,) = read["micro_batches"]
    assert (one["micro_batch"], one["files"], one["labels"]) == (0, ["a.jpg", "b.jpg"], [0, 1])
    assert torch.equal(one["gradients"]["first.weight"], torch.ones(5, 7))
    assert torch.equal(one["images"], micro_batch.images)
