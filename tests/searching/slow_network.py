"""A network that can be slowed down from outside, without another result: so that a test can stop it in time."""

from __future__ import annotations

import os
import time
from pathlib import Path

from torch import Tensor, nn

SLOW = "SIGNS_DIST_TEST_SLOW"
"""Variable with the path of a file. As long as it exists, each forward pass in training takes 0.5 s longer."""


class SlowNetwork(nn.Module):
    """One layer after averaging each colour."""

    def __init__(self, num_classes: int, image_size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        if self.training and SLOW in os.environ and Path(os.environ[SLOW]).exists():
            time.sleep(0.5)
        return self.layer(images.mean((2, 3)))
