from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from signs_dist.checkpointing.store import Cursor
from signs_dist.checkpointing.tensors import plain_weights, weights_sha256
from signs_dist.data import ahead
from signs_dist.data.ahead import AsPrepared, prepared_in_a_row
from signs_dist.data.batches import Batch
from signs_dist.training.stepper import Stepper
from tests.training.parts import make_stepper


def batch_of(number: int) -> Batch:
    numbers = torch.tensor([number, number])
    return Batch(torch.full((2, 3, 4, 4), number, dtype=torch.uint8), numbers, numbers, 0, number)


def with_history(history: list[str], count: int, error_at: int | None = None) -> Iterator[tuple[Batch, float]]:
    for number in range(count):
        if number == error_at:
            raise OSError("broken")
        history.append(f"load {number}")
        yield batch_of(number), 1.0


def prepare(batch: Batch) -> tuple[Tensor, Tensor]:
    return batch.images.float() + 0.5, batch.labels * 10


@pytest.mark.parametrize(
    ("most_batches", "most_bytes", "rows"),
    [
        (1, 10**9, [1, 1, 1, 1, 1]),
        (3, 10**9, [3, 2]),
        (8, 10**9, [5]),
        (8, 1, [1, 1, 1, 1, 1]),
        (8, 2 * 2 * 3 * 4 * 4 * 4, [2, 2, 1]),
    ],
)
def test_rows_are_as_long_as_batches_and_bytes_allow(
    monkeypatch: pytest.MonkeyPatch, most_batches: int, most_bytes: int, rows: list[int]
) -> None:
    monkeypatch.setattr(ahead, "MOST_BATCHES", most_batches)
    monkeypatch.setattr(ahead, "MOST_BYTES", most_bytes)
    history: list[str] = []
    waits = []
    for batch, waited in prepared_in_a_row(with_history(history, 5), prepare):
        images, targets = AsPrepared(torch.device("cpu"))(batch)
        history.append(f"step {batch.step}")
        waits.append(waited)
        assert torch.equal(images, torch.full((2, 3, 4, 4), batch.step + 0.5))
        assert targets.tolist() == [10 * batch.step] * 2
        assert batch.samples.tolist() == [batch.step] * 2
    expected, first = [], 0
    for length in rows:
        numbers = range(first, first + length)
        expected += [f"load {number}" for number in numbers] + [f"step {number}" for number in numbers]
        first += length
    assert history == expected
    assert sum(waits) == 5.0


def test_an_error_comes_after_the_batches_before_it() -> None:
    batches = prepared_in_a_row(with_history([], 5, error_at=3), prepare)
    assert [next(batches)[0].step for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="broken"):
        next(batches)


def test_training_has_the_same_bits_whether_batches_are_prepared_in_a_row_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train() -> str:
        stepper, _ = make_stepper(tmp_path, "augment.mixup=0.4", "augment.erase=0.5")
        list(stepper.steps(Cursor(0, 0)))
        return weights_sha256(plain_weights(stepper.state.model))

    in_a_row = train()
    monkeypatch.setattr(Stepper, "_prepares_in_a_row", False)
    assert train() == in_a_row


@pytest.mark.parametrize(
    ("settings", "in_a_row"),
    [((), True), (("train.micro_batch=4",), False), (("data.num_workers=1", "data.storage=files"), False)],
)
def test_whole_steps_of_stored_pixels_are_prepared_in_a_row(
    tmp_path: Path, settings: tuple[str, ...], in_a_row: bool
) -> None:
    stepper, _ = make_stepper(tmp_path, *settings)
    assert stepper._prepares_in_a_row is in_a_row
