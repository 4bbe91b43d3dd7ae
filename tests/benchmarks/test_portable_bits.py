"""A small fixed run under caps on the instruction set, compared with what another machine has computed.

On a processor that is not known it tells what differs, and does not fail: that bits are equal there is not promised.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from benchmarks.portable_bits import CAPS, PORTABLE, RUN, digest_under
from signs_dist.environment.processor import CPUINFO, find_model
from tests.processes import environment
from tests.test_layers import REPOSITORY

KEPT = json.loads((REPOSITORY / "tests" / "data" / "portable_bits.json").read_text())


@pytest.mark.slow
def test_the_small_run_under_caps_gives_the_kept_bits() -> None:
    if torch.__version__ != KEPT["torch"]:
        pytest.skip(f"the bits were kept with torch {KEPT['torch']}, and this is {torch.__version__}")
    digests = digest_under(CAPS[PORTABLE])
    assert digests.keys() == KEPT["digests"].keys()
    differing = [name for name, digest in digests.items() if digest != KEPT["digests"][name]]
    model = find_model(CPUINFO.read_text()) if CPUINFO.exists() else ""
    if model == KEPT["processor"]:
        assert differing == []
    elif differing:
        pytest.skip(f"on {model} other bits than on {KEPT['processor']}: {', '.join(differing)}")


@pytest.mark.slow
def test_a_cap_reaches_the_operations() -> None:
    """Without a vector unit, batch norm and the run come out otherwise: the comparison is not of constants."""
    digests = digest_under({**CAPS[PORTABLE], "ATEN_CPU_CAPABILITY": "default"})
    assert digests["to bfloat16"] == KEPT["digests"]["to bfloat16"]
    if torch.__version__ == KEPT["torch"]:
        assert digests[RUN] != KEPT["digests"][RUN]


def test_help_names_the_command() -> None:
    command = [sys.executable, "benchmarks/portable_bits.py", "--help"]
    ended = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False)
    assert "Which operations give the same bits with other instructions" in ended.stdout
