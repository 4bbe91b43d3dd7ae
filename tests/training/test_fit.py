"""The whole job in a script: its result, and what it leaves as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from signs_dist.config.reading import load_config
from signs_dist.errors import UserError
from signs_dist.training.fit import fit
from tests.sets import write_colour_set


def test_fit_trains_once_and_then_gives_the_same_result(tmp_path: Path) -> None:
    root = write_colour_set(tmp_path / "colours", counts={"train": 8, "val": 4})
    small = ["data.image_size=16", "train.global_batch=8", "train.epochs=1", "data.num_workers=0", "model.name=mlp"]
    config = load_config(None, [f"data.root={root}", f"data.cache={tmp_path / 'cache'}", *small]).config
    environment, num_threads, random_state = dict(os.environ), torch.get_num_threads(), torch.get_rng_state()
    result = fit(config, tmp_path / "run", device="cpu", quiet=True)
    assert result["run_dir"] == tmp_path / "run"
    assert 0 <= result["val_accuracy"] <= 1
    assert fit(config, tmp_path / "run", device="cpu", quiet=True) == result  # finished: nothing is trained again
    assert torch.get_num_threads() == num_threads
    assert torch.equal(torch.get_rng_state(), random_state)
    assert dict(os.environ) == environment
    other = config.model_copy(update={"seed": 5})
    with pytest.raises(UserError, match="seed"):
        fit(other, tmp_path / "run", device="cpu", quiet=True)
