"""Where a command runs: made once by each command, and passed on as one value."""

from __future__ import annotations

import dataclasses

from signs_dist.console.screen import Screen
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.environment.context import Context
from signs_dist.monitoring.pulse import Pulse


@dataclasses.dataclass(frozen=True)
class Process:
    """This process of a run.

    Attributes:
        context: who launched it, and what it may use.
        devices: what it computes on, for people.
        strategy: how processes and devices share the work.
        screen: what a person sees.
        pulse: what it is doing now.
    """

    context: Context
    devices: str
    strategy: SingleProcess
    screen: Screen
    pulse: Pulse

    @property
    def killer(self) -> str:
        """What kills the process if it does not end after SIGTERM, for people."""
        return "SLURM" if self.context.is_by_slurm else "torchrun"
