"""This process of a run: context, devices, strategy, screen and pulse, made once and passed on as one value."""

from __future__ import annotations

import dataclasses
import time

from signs_dist.console.screen import Screen
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.environment.context import Context
from signs_dist.monitoring.pulse import Pulse


@dataclasses.dataclass(frozen=True)
class Process:
    """This process of a run.

    Attributes:
        context: which launcher started it, and which cores it may use.
        devices: what it computes on, for people.
        strategy: how processes and devices share the work.
        screen: standard output and the log.
        pulse: the phase of training that it is in, for the heartbeat.
        started: `time.monotonic()` before it was connected to the others.
    """

    context: Context
    devices: str
    strategy: SingleProcess
    screen: Screen
    pulse: Pulse
    started: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def killer(self) -> str:
        """The program that kills this process if it does not end after SIGTERM, for people."""
        return "SLURM" if self.context.is_by_slurm else "torchrun"
