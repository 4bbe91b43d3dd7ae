"""Debian's chromium, in which tests open reports."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REQUIRED = "SIGNS_DIST_REQUIRE_CHROMIUM"
"""With this environment variable, as in CI, tests fail where there is no chromium, instead of being skipped."""
SCREENSHOTS = Path(__file__).resolve().parent.parent.parent / "build" / "screenshots"
"""Where the tests leave screenshots. Git ignores the folder."""
ADVICE = "no chromium is installed. Type: apt-get install chromium, and: pip install playwright"


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window and without a network."""
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        assert not os.environ.get(REQUIRED), ADVICE
        pytest.skip(ADVICE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
