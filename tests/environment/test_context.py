"""The context of this process, from its environment."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
from pathlib import Path

import pytest

from signs_dist.environment.context import read_context
from tests.environment.test_launchers import BY_HAND, SRUN, TORCHRUN


@pytest.fixture
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name in BY_HAND or name.startswith(("SLURM_", "SUBMITIT_", "TORCHELASTIC_", "CUDA_VISIBLE_DEVICES")):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("_no_launcher")
def test_the_context_of_this_process_is_frozen() -> None:
    context = read_context()
    assert (context.launcher, context.rank, context.world_size, context.is_terminal) == ("python", 0, 1, False)
    assert (context.error_file, context.visible_devices, context.launch_note) == (None, None, "")
    assert context.usable_cores >= 1
    assert context.cores_per_process == context.usable_cores
    assert context.host
    assert context.process_id == os.getpid()
    with pytest.raises(dataclasses.FrozenInstanceError):
        context.rank = 1  # type: ignore[misc]


@pytest.mark.usefixtures("_no_launcher")
def test_a_program_without_a_standard_output_has_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stdout", stream)
        assert not read_context().is_terminal


@pytest.mark.usefixtures("_no_launcher")
@pytest.mark.parametrize("launcher", [{}, TORCHRUN, SRUN])
@pytest.mark.parametrize(("restarts", "is_requeued"), [(None, False), ("0", False), ("2", True)])
def test_a_requeued_job_is_known_under_any_launcher(
    monkeypatch: pytest.MonkeyPatch, launcher: dict[str, str], restarts: str | None, is_requeued: bool
) -> None:
    for name, value in {"SLURM_JOB_ID": "7", **launcher}.items():
        monkeypatch.setenv(name, value)
    if restarts is not None:
        monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    assert read_context().is_requeued == is_requeued
    monkeypatch.delenv("SLURM_JOB_ID")
    if not launcher:
        assert not read_context().is_requeued


@pytest.mark.usefixtures("_no_launcher")
def test_the_context_of_one_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", "/tmp/error.json")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    context = read_context()
    assert (context.launcher, context.rank, context.world_size) == ("torchrun", 3, 8)
    assert (context.local_rank, context.local_world_size, context.restart_count) == (1, 2, 2)
    assert (context.master_address, context.master_port, context.uses_agent_store) == ("node1", 29500, True)
    assert context.error_file == Path("/tmp/error.json")
    assert context.visible_devices == "4, 6"
    assert context.cores_per_process == max(1, context.usable_cores // 2) == context.num_threads
