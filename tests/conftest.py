"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_photos() -> Path:
    """The published SIGNS photos at 64 x 64 pixels: train_signs (864) and val_signs (216)."""
    folder = REPOSITORY.parent / "shared" / "data" / "64x64_SIGNS"
    if not folder.is_dir():
        pytest.skip(f"the real SIGNS photos are not in {folder}")
    return folder


@pytest.fixture(autouse=True)
def _one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run side by side: more than one thread each, here and in what they start, would only take turns."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
