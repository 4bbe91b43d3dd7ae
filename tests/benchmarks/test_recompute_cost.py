"""The figures of benchmarks/recompute_cost.py."""

from __future__ import annotations

import pytest

from benchmarks.recompute_cost import report


@pytest.mark.parametrize(("each", "told"), [(50.0, "PASS: below 0.2%"), (25.0, "FAIL: below 0.2%")])
def test_the_cost_at_the_suggested_steps_follows_from_checks_at_each_step(each: float, told: str) -> None:
    rates = {"no check": [99.0, 100.0, 101.0], "every tenth step": [90.0, 100.0, 101.0], "every step": [each] * 3}
    lines = report(rates)
    assert lines[0] == "        no check:     100.0 images/s"
    assert lines[-1].startswith(told)
    if told.startswith("PASS"):
        assert lines[3] == "a step with a check takes +100% time; at every 1,000 steps that is +0.100%"
        assert lines[4] == "at every tenth step: +0.0% time, where +10.0% is expected"
