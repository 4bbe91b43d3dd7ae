"""What this process is doing now, set by the code that does it."""

from __future__ import annotations


class Pulse:
    """What this process is doing now. The training loop sets it many times a second.

    Attributes:
        phase: such as `forward`.
        epoch, step: counted from 1; 0 before the first.
        collective: whether the phase waits for other processes.
        is_told: whether the code that waits says so itself, and for whom.
        beats: how many times the pulse was set.
    """

    def __init__(self) -> None:
        self.phase = "start"
        self.epoch = self.step = self.beats = 0
        self.collective = self.is_told = False

    def enter(self, phase: str, *, epoch: int | None = None, step: int | None = None, collective: bool = False) -> None:
        """Begin a phase. `epoch` and `step` keep their values if they are omitted."""
        self.phase, self.collective = phase, collective
        if epoch is not None:
            self.epoch = epoch
        if step is not None:
            self.step = step
        self.beats += 1
