"""Fixtures for the tests of training."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from signs_dist.distributed.exactness import arithmetic_kept


@pytest.fixture(autouse=True)
def _torch_as_before() -> Iterator[None]:
    """Exact mode chooses threads and kernels for the whole process."""
    with arithmetic_kept():
        yield
