"""Files whose tensors arrive in parts: what torch.load reads, and how they are laid out."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from signs_dist.checkpointing.streamed import ALIGNMENT, StreamedTensor, holds_streamed, save_streamed
from signs_dist.checkpointing.tensors import num_tensor_bytes, write_to
from signs_dist.models.archive_members import find_bad_member
from signs_dist.models.weights import read_plain

DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16),
    *(torch.int8, torch.uint8, torch.bool),
)


def streamed(tensor: Tensor, *cuts: int) -> StreamedTensor:
    flat = tensor.as_strided((tensor.numel(),), (1,))
    ends = [0, *cuts, tensor.numel()]
    return StreamedTensor(
        tuple(tensor.shape),
        tensor.stride(),
        tensor.dtype,
        lambda: iter([flat[start:end] for start, end in itertools.pairwise(ends)]),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_torch_reads_what_was_written(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = (torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5) % 100).to(dtype)
    turned = tensor.to(memory_format=torch.channels_last)
    value = {
        "pieces": streamed(turned, 1, 77),
        "whole": turned,
        "more": [{"step": torch.tensor(3.0), "none": None, 5: (1.5, "text")}, torch.zeros(0, dtype=dtype)],
    }
    with (tmp_path / "file.pt").open("wb", buffering=0) as file:
        written = write_to(file, value)
    assert written.num_bytes == (tmp_path / "file.pt").stat().st_size
    found = read_plain(tmp_path / "file.pt")
    assert torch.equal(found["pieces"], tensor)
    assert torch.equal(found["whole"], tensor)
    assert found["pieces"].dtype == dtype
    assert found["more"][0] == {"step": torch.tensor(3.0), "none": None, 5: (1.5, "text")}
    assert found["more"][1].shape == (0,)
    assert find_bad_member(tmp_path / "file.pt") == ""


def test_tensors_begin_where_a_processor_reads_them_fast(tmp_path: Path) -> None:
    value = {f"{number}": streamed(torch.arange(number + 1)) for number in range(5)}
    with (tmp_path / "file.pt").open("wb") as file:
        save_streamed(value, file)
    found = torch.load(tmp_path / "file.pt", weights_only=True, mmap=True)
    assert {tensor.data_ptr() % ALIGNMENT for tensor in found.values()} == {0}
    assert found["4"].tolist() == [0, 1, 2, 3, 4]


def test_parts_are_asked_for_in_the_order_of_the_value() -> None:
    asked: list[str] = []

    def parts(name: str) -> Iterator[Tensor]:
        asked.append(name)
        yield torch.zeros(1)

    value = {name: StreamedTensor((1,), (1,), torch.float32, lambda name=name: parts(name)) for name in "cab"}
    save_streamed({"inner": value}, io.BytesIO())
    assert asked == ["c", "a", "b"]


def test_a_part_that_is_missing_is_an_error() -> None:
    short = StreamedTensor((3,), (1,), torch.float32, lambda: iter([torch.zeros(2)]))
    with pytest.raises(RuntimeError, match="8 bytes arrived of a tensor of 12"):
        save_streamed({"short": short}, io.BytesIO())


def test_what_is_not_here_yet_is_found_and_counted() -> None:
    tensor = streamed(torch.zeros(3))
    assert holds_streamed({"a": [1, (tensor,)]})
    assert not holds_streamed({"a": [1, (torch.zeros(3),)]})
    assert num_tensor_bytes({"a": tensor, "b": torch.zeros(2)}) == 20
