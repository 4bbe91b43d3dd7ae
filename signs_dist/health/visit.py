"""A visit to all ranks: where each is, who still answers, and what was found so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from signs_dist.environment.context import Context
from signs_dist.health.attempts import split_broken
from signs_dist.health.finding import Finding, Place, leaders_of, listed
from signs_dist.health.stages import Stages

if TYPE_CHECKING:
    from signs_dist.distributed.rendezvous import Meeting

Tell = Callable[[Sequence[Finding]], None]


@dataclasses.dataclass
class Visit:
    """All that the checks of one rank share.

    Attributes:
        context: of this process.
        stages: how the ranks go through the checks together.
        places: where each rank is.
        pids: the process id of each rank.
        token: 16 bytes that all ranks know, and other programs do not.
        meeting: the store that all ranks share; None for one rank.
        tell: gets the findings of each check on rank 0, as soon as they are there.
        findings: those of rank 0 so far; none on other ranks.
    """

    context: Context
    stages: Stages
    places: Mapping[int, Place]
    pids: Mapping[int, int]
    token: bytes
    meeting: Meeting | None
    tell: Tell
    findings: list[Finding] = dataclasses.field(default_factory=list)
    _told: set[int] = dataclasses.field(default_factory=set)

    @property
    def rank(self) -> int:
        """Of this process."""
        return self.context.rank

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which judges and tells."""
        return self.context.rank == 0

    @property
    def nodes(self) -> set[str]:
        """The machines of all ranks that still answer."""
        return {self.places[rank].node for rank in self.stages.living}

    @property
    def leaders(self) -> list[int]:
        """Of each machine the lowest rank that still answers."""
        return leaders_of({rank: self.places[rank] for rank in self.stages.living})

    def say(self, findings: Sequence[Finding]) -> None:
        """Tell rank 0's findings."""
        if self.is_main:
            self.findings += findings
            self.tell(findings)

    def gather(
        self, name: str, measure: Callable[[], Any], seconds: float, ranks: Sequence[int] | None = None
    ) -> tuple[dict[int, Any], list[Finding]]:
        """Measure on these ranks; a rank that does not answer is told at once.

        Args:
            name: of the check.
            measure: gives a value that JSON can hold.
            seconds: how long it may take.
            ranks: which measure; None: all.

        Returns:
            The readings of those ranks that could take them, and findings about the others.
        """
        readings = self.stages.run(name, measure, seconds, ranks=ranks)
        new = [rank for rank in self.stages.lost if rank not in self._told]
        self._told.update(new)
        self.say([judge_lost(rank, *self.stages.lost[rank], self.places, self.pids) for rank in new])
        return split_broken(name, readings, self.places)

    def describe_lost(self) -> str:
        """The ranks that do not answer any more; "" if all do."""
        return listed(self.places[rank] for rank in self.stages.lost)


def judge_lost(rank: int, stage: str, seconds: float, places: Mapping[int, Place], pids: Mapping[int, int]) -> Finding:
    """That a rank does not answer any more."""
    return Finding(
        "ranks",
        "fail",
        f"{places[rank]} did not answer in the check {stage!r} within {seconds:g} s",
        "an answer from every rank",
        f"on {places[rank].node}: ps -o pid,stat,wchan:20,cmd -p {pids.get(rank, 0)} shows what it does (T: stopped, "
        "D: waits for a disk or a network; gone: see its log)",
    )
