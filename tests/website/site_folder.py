"""The Python that has Sphinx, in tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = REPOSITORY / ".venv-docs" / "bin" / "python"
REQUIRED = "SIGNS_DIST_REQUIRE_SITE"
"""With this environment variable, as in CI, tests fail where Sphinx is missing, instead of being skipped."""


def python() -> str:
    """The Python that has Sphinx, furo and MyST; without it the test is skipped."""
    if not (PYTHON.parent.parent / "installed").exists():
        advice = "what makes the site is not installed. Type: make docs"
        if os.environ.get(REQUIRED):
            pytest.fail(advice)
        pytest.skip(advice)
    return str(PYTHON)
