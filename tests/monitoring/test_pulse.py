"""The pulse: what a process is doing now."""

from __future__ import annotations

from signs_dist.monitoring.pulse import Pulse


def test_a_phase_keeps_the_place_that_is_omitted() -> None:
    pulse = Pulse()
    assert (pulse.phase, pulse.epoch, pulse.step, pulse.collective, pulse.beats) == ("start", 0, 0, False, 0)
    pulse.enter("forward", epoch=2, step=5)
    pulse.enter("sum gradients", collective=True)
    assert (pulse.phase, pulse.epoch, pulse.step, pulse.collective) == ("sum gradients", 2, 5, True)
    pulse.enter("save", step=6)
    assert (pulse.epoch, pulse.step, pulse.collective, pulse.beats) == (2, 6, False, 3)
