"""Going through checks together, stage by stage: all ranks measure, rank 0 decides who still takes part.

A rank that does not answer is left behind, and named. Nobody waits for it longer than the stage may take.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Collection
from typing import Any

from signs_dist.distributed.board import Board
from signs_dist.errors import EXIT_PEER_LOST, PeerLostError
from signs_dist.health.attempts import attempt
from signs_dist.monitoring.signals import end_now
from signs_dist.monitoring.waiting import WaitWatcher

GRACE_SECONDS = 5.0
"""How much longer than a measurement may take rank 0 waits for its result, and the others for rank 0's."""


class Stages:
    """The stages of one rank.

    Args:
        board: which all ranks share.
        rank: of this process.
        world_size: number of ranks.
        grace_seconds: see `GRACE_SECONDS`.

    Attributes:
        living: the ranks that still take part.
        lost: a rank that does not → (the stage in which it did not answer, for how many seconds it was waited for).
    """

    def __init__(self, board: Board, rank: int, world_size: int, grace_seconds: float = GRACE_SECONDS) -> None:
        self.living = list(range(world_size))
        self.lost: dict[int, tuple[str, float]] = {}
        self._board, self._rank, self._grace = board, rank, grace_seconds
        self._watcher = WaitWatcher(notice_seconds=30.0)
        self._num_stages = 0

    def run(
        self, name: str, measure: Callable[[], Any], seconds: float, *, ranks: Collection[int] | None = None
    ) -> dict[int, Any]:
        """Measure on these ranks, and gather what they found on all ranks.

        Args:
            name: of the stage, for people.
            measure: gives a value that JSON can hold.
            seconds: how long it may take; `{"broken": why}` takes the place of a value that does not come.
            ranks: which measure; None: all.

        Returns:
            The values of those ranks that have answered.

        Raises:
            PeerLostError: rank 0 does not answer, or has gone on without this rank.
        """
        self._num_stages += 1
        key = f"{self._num_stages} {name}"
        begun = time.monotonic()
        own = attempt(measure, seconds) if ranks is None or self._rank in ranks else None
        limit = seconds + self._grace
        with self._watcher.waiting(
            lambda: "", limit_seconds=limit + 2 * self._grace, on_limit=lambda waited: self._give_up(name, waited)
        ):
            try:
                values = self._exchange(key, own, begun + limit)
            except RuntimeError as error:
                raise PeerLostError(
                    f"rank {self._rank} lost rank 0 in the stage {name!r}: the store has gone."
                ) from error
        if values is None:
            raise PeerLostError(f"rank {self._rank} waited {limit:g} s for rank 0 in the stage {name!r}.")
        for rank in self.living:
            if rank not in values:
                self.lost[rank] = (name, limit)
        self.living = sorted(values)
        if self._rank not in values:
            raise PeerLostError(f"rank {self._rank} answered too late in the stage {name!r}: the others went on.")
        return {rank: value for rank, value in values.items() if ranks is None or rank in ranks}

    def _exchange(self, key: str, own: Any, deadline: float) -> dict[int, Any] | None:
        self._board.put(key, own)
        left = max(0.0, deadline - time.monotonic())
        if self._rank == 0:
            values = self._board.get(key, self.living, left)
            self._board.put(f"{key} of all", list(values.items()))
            return values
        told = self._board.get(f"{key} of all", [0], left + self._grace)
        return dict(told[0]) if told else None

    def leave(self) -> None:
        """Be done: rank 0, which may serve the store, waits until the others need it no more."""
        with contextlib.suppress(RuntimeError):
            if self._rank != 0:
                self._board.put("left", None)
            else:
                self._board.get("left", [rank for rank in self.living if rank != 0], self._grace)

    def _give_up(self, name: str, waited: float) -> None:
        """End this process, whose store does not answer: nothing else interrupts such a wait."""
        print(
            f"rank {self._rank}: rank 0 does not answer in the stage {name!r} ({waited:.0f} s). Is it stopped? See ps",
            file=sys.stderr,
            flush=True,
        )
        end_now(EXIT_PEER_LOST)

    def close(self) -> None:
        """End the thread that watches the waits."""
        self._watcher.close()
