"""Fixtures for the tests of replaying."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import signs_dist as sd
from signs_dist.distributed.exactness import arithmetic_kept
from tests.sets import small_run, write_colour_set


@pytest.fixture(autouse=True)
def _torch_as_before() -> Iterator[None]:
    """Exact mode chooses threads and kernels for the whole process."""
    with arithmetic_kept():
        yield


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 12, "val": 4})


@pytest.fixture(scope="module")
def exact_run(tmp_path_factory: pytest.TempPathFactory, colours: Path) -> Path:
    """Two epochs of four steps, each of four micro-batches of two images; states after step 3, 4, 6 and 8."""
    folder = tmp_path_factory.mktemp("exact") / "run"
    settings = small_run(
        colours,
        "exact=true",
        "checkpoint.every_steps=3",
        "checkpoint.keep=9",
        "train.precision=float32",
        "log.samples=true",
        "log.every_steps=1",
        epochs=2,
        global_batch=8,
    )
    with arithmetic_kept():
        sd.fit(sd.load_config(None, settings), run_dir=folder, quiet=True)
    return folder
