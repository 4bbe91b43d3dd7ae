"""The value that says where a command runs."""

from __future__ import annotations

import dataclasses

import pytest

from signs_dist.training.process import Process
from tests.training.parts import make_process


@pytest.mark.parametrize(
    ("launcher", "killer"),
    [("python", "torchrun"), ("torchrun", "torchrun"), ("srun", "SLURM"), ("submitit", "SLURM")],
)
def test_who_kills_a_process_that_does_not_end(launcher: str, killer: str) -> None:
    assert make_process(launcher=launcher).killer == killer


def test_a_process_is_made_once() -> None:
    process: Process = make_process()
    with pytest.raises(dataclasses.FrozenInstanceError):
        process.devices = "cuda:0"  # type: ignore[misc]
