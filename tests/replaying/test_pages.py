"""The sections of the picture: each image with its file, class and prediction."""

from __future__ import annotations

import torch

from signs_dist.replaying.pages import make_sections
from tests.replaying.test_records import make_micro_batch, make_step


def test_a_section_is_a_micro_batch() -> None:
    step = make_step(make_micro_batch(), make_micro_batch(3))
    files = {4: "a/zero.jpg", 2: "b/one.jpg"}
    ones, zeros = torch.ones(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)
    sections = make_sections([step], files, ["zero", "one", "two"], ones, zeros)
    assert [section.heading for section in sections] == [
        "step 7 (epoch 2, step 3) · micro-batch 0 · loss 1.5",
        "step 7 (epoch 2, step 3) · micro-batch 3 · loss 1.5",
    ]
    first, second = sections[0].tiles
    assert first.lines == ("zero.jpg", "class zero", "predicted zero", "loss 0.5")
    assert second.lines == ("one.jpg", "class one", "predicted zero", "loss 2.5")
    assert (first.is_wrong, second.is_wrong) == (False, True)
    assert (first.pixels == 128).all()
