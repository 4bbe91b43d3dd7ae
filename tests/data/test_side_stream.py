"""Copies beside the computation: in which order, and of what. The streams are fakes."""

from __future__ import annotations

import weakref
from collections.abc import Generator

import torch
from torch import Tensor

from signs_dist.data.batches import Batch
from signs_dist.data.side_stream import SideCopies

DEVICE = torch.device("meta")
"""Stands for a GPU."""


class Log:
    """Streams that note what they are asked."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.num_marks = 0

    def copy(self, tensor: Tensor) -> Tensor:
        self.lines.append(f"copy {list(tensor.shape)}")
        return torch.empty_like(tensor, device=DEVICE)

    def await_copies(self) -> None:
        self.lines.append("wait")

    def mark(self) -> int:
        self.num_marks += 1
        return self.num_marks - 1

    def copy_after(self, mark: int) -> None:
        self.lines.append(f"after mark {mark}")


def batch(step: int, device: str = "cpu") -> Batch:
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8, device=device)
    labels = torch.zeros(4, dtype=torch.int64, device=device)
    return Batch(images, labels, torch.arange(4) + step, 0, step)


def loaded(log: Log, closed: list[bool]) -> Generator[Batch, None, None]:
    try:
        for step in range(3):
            log.lines.append(f"load {step}")
            yield batch(step)
    finally:
        closed.append(True)


def test_a_batch_is_copied_when_its_step_asks_for_it_and_awaited_before_it_is_used() -> None:
    log, closed = Log(), []
    copies = SideCopies(loaded(log, closed), log)
    for step, found in enumerate(copies):
        assert found.images.device == found.labels.device == DEVICE
        assert found.samples.tolist() == (torch.arange(4) + step).tolist(), "on the host"
        assert (found.epoch, found.step) == (0, step)
        # Mark n is set before step n: the copy of step 2 runs beside step 1, after step 0, whose memory it may get.
        after = f"after mark {max(0, step - 1)}"
        assert log.lines == [f"load {step}", after, "copy [4, 3, 8, 8]", "copy [4]", "wait"]
        log.lines.clear()
    assert closed == [True]


def test_a_pass_that_stops_closes_its_loader_and_has_taken_no_batch_ahead() -> None:
    log, closed = Log(), []
    copies = SideCopies(loaded(log, closed), log)
    next(copies)
    copies.close()
    assert closed == [True]
    assert [line for line in log.lines if line.startswith("load")] == ["load 0"]


def test_what_is_on_the_gpu_already_is_neither_copied_nor_awaited() -> None:
    log = Log()

    def resident() -> Generator[Batch, None, None]:
        yield batch(0, "meta")

    (found,) = SideCopies(resident(), log)
    assert found.images.device == DEVICE
    assert log.lines == []


def test_a_copy_is_kept_until_the_next_one_but_one_waits_for_its_step() -> None:
    log = Log()
    copies = SideCopies(loaded(log, []), log)
    held = [weakref.ref(next(copies).images) for _ in range(2)]
    assert all(one() is not None for one in held)
    next(copies)
    assert [one() is not None for one in held] == [False, True]


def test_labels_may_be_read_after_the_copies_of_later_steps() -> None:
    """The hits of up to 16 steps are counted together."""

    class Remembers(Log):
        def __init__(self) -> None:
            super().__init__()
            self.copies: list[Tensor] = []

        def copy(self, tensor: Tensor) -> Tensor:
            self.copies.append(tensor.clone())
            return self.copies[-1]

        def copy_after(self, mark: int) -> None:
            """The worst that may happen: all memory of older steps is written to again."""
            for copy in self.copies[:-2]:
                copy.fill_(99)

    def numbered() -> Generator[Batch, None, None]:
        for step in range(4):
            yield batch(step)._replace(labels=torch.full((4,), step))

    found = list(SideCopies(numbered(), Remembers()))
    assert [one.labels.tolist() for one in found] == [[step] * 4 for step in range(4)]
