"""Pieces on their way to the process that writes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from signs_dist.distributed.shipment import Place, Sender, Shipment, Spread
from tests.distributed.thread_group import ThreadGroup, in_threads

SPREAD: dict[Place, Spread] = {
    ("ema", "weight"): Spread((2, 3), (3, 1), torch.float32, [(0, 0, 2), (1, 2, 6)]),
    ("optimizer", 0, "exp_avg"): Spread((4,), (1,), torch.float64, [(1, 0, 4)]),
}


def pieces_of(rank: int) -> dict[Place, Tensor]:
    own = {
        place: [torch.arange(start, end, dtype=each.dtype) for owner, start, end in each.bounds if owner == rank]
        for place, each in SPREAD.items()
    }
    return {place: parts[0] for place, parts in own.items() if parts}


def ship(group: ThreadGroup, receive: Any) -> Any:
    shipment = Shipment(SPREAD, pieces_of(group.rank), group, group.rank)
    if group.rank == 0:
        return receive(shipment)
    sender = Sender()
    sender.submit(shipment)
    return sender.wait()


def test_rank_0_gets_every_tensor_in_the_order_of_its_memory() -> None:
    def receive(shipment: Shipment) -> dict[Place, list[float]]:
        return {place: torch.cat(list(shipment.parts(place))).tolist() for place in SPREAD}

    found, nothing = in_threads(2, lambda group: ship(group, receive))
    assert found == {("ema", "weight"): [0, 1, 2, 3, 4, 5], ("optimizer", 0, "exp_avg"): [0, 1, 2, 3]}
    assert nothing is None


def test_a_save_that_fails_leaves_no_process_waiting() -> None:
    def receive(shipment: Shipment) -> str:
        next(iter(shipment.parts(("ema", "weight"))))
        shipment.drain()  # as after an error of the disk
        shipment.drain()
        return "done"

    assert in_threads(2, lambda group: ship(group, receive)) == ["done", None]


def test_another_order_is_a_fault_of_the_program() -> None:
    shipment = Shipment(SPREAD, pieces_of(0), ThreadGroupOfNobody(), 0)
    with pytest.raises(AssertionError, match="is not the next tensor"):
        next(shipment.parts(("optimizer", 0, "exp_avg")))


def test_a_writer_that_has_ended_is_told_when_the_sender_is_waited_for() -> None:
    sender = Sender()
    sender.submit(Shipment(SPREAD, pieces_of(1), ThreadGroupOfNobody(), 1))
    with pytest.raises(RuntimeError, match="Connection closed by peer"):
        sender.wait()
    sender.wait()  # it is told once


class ThreadGroupOfNobody:
    def send(self, tensor: Tensor, rank: int) -> None:
        raise RuntimeError("Connection closed by peer")

    def receive(self, tensor: Tensor, rank: int) -> Tensor:
        raise RuntimeError("Connection closed by peer")
