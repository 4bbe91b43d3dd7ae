"""A board on which the processes of a run leave plain values for each other. No wait for it is without a limit.

Collectives need all processes: one that hangs stops all others. What is read here comes from those that answer, and the
others are named.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Collection
from typing import Any

from torch._C._distributed_c10d import HashStore, PrefixStore, Store, TCPStore

from signs_dist.distributed.rendezvous import Meeting

_POLL_SECONDS = 0.02


class Board:
    """Values that JSON can hold, by name and rank.

    Args:
        rank: of this process.
        store: which all processes share; None: this process is alone.
    """

    def __init__(self, rank: int, store: Store | None = None) -> None:
        self._rank = rank
        self._store = PrefixStore("board", HashStore() if store is None else store)

    def put(self, name: str, value: Any) -> None:
        """Leave this process's value. Raises RuntimeError where the store has gone."""
        self._store.set(f"{name}/{self._rank}", json.dumps(value))

    def get(self, name: str, ranks: Collection[int], seconds: float) -> dict[int, Any]:
        """The values of these ranks, as soon as all are there; after `seconds` of those that have left one.

        Raises:
            RuntimeError: the store has gone.
        """
        deadline = time.monotonic() + seconds
        found: dict[int, Any] = {}
        while True:
            for rank in ranks:
                if rank not in found and self._store.check([f"{name}/{rank}"]):
                    found[rank] = json.loads(self._store.get(f"{name}/{rank}"))
            if len(found) == len(ranks) or time.monotonic() > deadline:
                return dict(sorted(found.items()))
            time.sleep(_POLL_SECONDS)


def second_connection(meeting: Meeting, world_size: int, seconds: float) -> Meeting:
    """The same store over a connection of its own: what waits there does not keep others from the store.

    Args:
        meeting: of all processes.
        world_size: number of processes.
        seconds: how long the connection, and each wait at the store, may take.
    """
    store = TCPStore(
        meeting.address,
        meeting.port,
        world_size,
        is_master=False,
        timeout=datetime.timedelta(seconds=seconds),
        wait_for_workers=False,
    )
    return Meeting(PrefixStore("second", store), meeting.address, meeting.port)
