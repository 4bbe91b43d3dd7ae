"""Sums over the bits of tensors: what changes them, and that nothing else does."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from signs_dist.distributed import bit_sums as bit_sums_module
from signs_dist.distributed.bit_sums import BitSums, bits_of

CPU = torch.device("cpu")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool)


def sums(*tensors: Tensor) -> tuple[int, ...]:
    found = BitSums(CPU)
    found.add_all(tensors)
    return tuple(found.sums.tolist())


def flipped(tensor: Tensor, *places: tuple[int, int]) -> Tensor:
    """A copy with flipped bits: (number of the 1, 2 or 4 bytes, bit)."""
    changed = tensor.clone()
    words = bits_of(changed)
    for number, bit in places:
        mask = 1 << bit
        words[number] ^= mask if mask < 2 ** (8 * words.element_size() - 1) else -mask
    return changed


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_single_flip_changes_the_plain_sum(dtype: torch.dtype) -> None:
    tensor = torch.randint(0, 2, (6,), generator=torch.Generator().manual_seed(0)).to(dtype)
    words = bits_of(tensor)
    before = sums(tensor)
    for number, bit in itertools.product(range(len(words)), range(8 * words.element_size())):
        assert sums(flipped(tensor, (number, bit)))[0] != before[0], (number, bit)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_two_flips_of_one_bit_at_any_two_places_are_seen(dtype: torch.dtype) -> None:
    """As when one number goes up and another down by as much: an exclusive or would not see it, nor a plain sum."""
    tensor = torch.tensor([1.0, -1.0, 2.5, -2.5, 0.0, -0.0], dtype=dtype)
    words, before = bits_of(tensor), sums(tensor)
    for one, other in itertools.combinations(range(len(words)), 2):
        for bit in range(8 * words.element_size()):
            assert sums(flipped(tensor, (one, bit), (other, bit))) != before, (one, other, bit)


def test_numbers_that_change_places_and_the_sign_of_zero_are_seen() -> None:
    assert sums(torch.tensor([1.0, 2.0])) != sums(torch.tensor([2.0, 1.0]))
    assert sums(torch.tensor([0.0])) != sums(torch.tensor([-0.0]))
    assert sums(torch.tensor([float("nan")])) == sums(torch.tensor([float("nan")]))


def test_neither_blocks_nor_the_order_of_memory_change_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    whole = BitSums(CPU)
    whole.add(tensor)
    monkeypatch.setattr(bit_sums_module, "BLOCK", 7)
    parts = BitSums(CPU)
    parts.add(tensor.to(memory_format=torch.channels_last))
    assert torch.equal(whole.sums, parts.sums)
    halves = BitSums(CPU)
    flat = tensor.reshape(-1)
    halves.add(flat[100:], first=100)
    halves.add(flat[:100])
    assert torch.equal(whole.sums, halves.sums)


def test_sums_that_are_too_large_wrap_around() -> None:
    ones = torch.full((2**12,), -1, dtype=torch.int64)
    far = BitSums(CPU)
    far.add(ones, first=2**62)
    assert far.sums.tolist()[0] == -(2**13)


def test_all_kinds_of_tensors_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = [torch.ones(3)[::2], torch.zeros(0), torch.tensor(2.5), torch.tensor([1 + 2j]), torch.ones(2, 2).t()]
    tensors = [*odd, *(torch.ones(3, dtype=dtype) for dtype in DTYPES)]
    before = sums(*tensors)
    for number, tensor in enumerate(tensors):
        if tensor.numel():
            changed = [*tensors[:number], flipped(tensor.contiguous(), (0, 3)), *tensors[number + 1 :]]
            assert sums(*changed) != before, number
    monkeypatch.setattr(bit_sums_module, "BLOCK", 2)
    assert sums(*tensors) == sums(*(tensor.clone() for tensor in tensors))
