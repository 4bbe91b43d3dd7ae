from __future__ import annotations

import logging
import sys
import warnings

import pytest

from signs_dist.inference.quiet import quiet_torch


def test_nothing_is_printed_within_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("torch.of_a_test")
    with quiet_torch():
        print("a graph")
        print("a traceback", file=sys.stderr)
        warnings.warn("about itself", stacklevel=1)
        logger.warning("a warning")
    assert capsys.readouterr() == ("", "")
    assert logger.isEnabledFor(logging.WARNING)
