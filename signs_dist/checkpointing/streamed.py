"""Checkpoints whose tensors arrive piece by piece, so that the process that writes never holds them all.

`torch.save` needs each tensor whole. A file of torch.save is a zip archive: the pickle `data.pkl`, which describes the
values, then the numbers of each tensor, uncompressed. Here the pickle is written first as well, and then the numbers as
they arrive. Format: torch/serialization.py and caffe2/serialize/inline_container.h.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

ALIGNMENT = 64
"""Each tensor begins at a multiple of so many bytes, as in a file of torch.save, for torch.load(…, mmap=True)."""
_TOP = "archive"
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)
_HEAD_BYTES = 30
_SIZES_BYTES = 20
"""The field that zipfile adds to a member's head for sizes of 64 bits."""
_STORAGES = {
    torch.float32: torch.FloatStorage,
    torch.float64: torch.DoubleStorage,
    torch.float16: torch.HalfStorage,
    torch.bfloat16: torch.BFloat16Storage,
    torch.int64: torch.LongStorage,
    torch.int32: torch.IntStorage,
    torch.int16: torch.ShortStorage,
    torch.int8: torch.CharStorage,
    torch.uint8: torch.ByteStorage,
    torch.bool: torch.BoolStorage,
}


class Stream(Protocol):
    """A file that is only written."""

    def write(self, data: Any) -> int:
        """As in a file."""
        ...

    def flush(self) -> None:
        """As in a file."""
        ...


@dataclasses.dataclass(frozen=True)
class StreamedTensor:
    """A dense tensor that is not here yet.

    Attributes:
        shape, stride, dtype: of the tensor. Its numbers are written in the order of its memory.
        parts: called once, when the tensor is written: its numbers, flat tensors on the CPU, one after the other. The
            tensors of a file are asked for in the order in which its value holds them.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    parts: Callable[[], Iterator[Tensor]]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class _Storage:
    """The numbers of a tensor, as the pickle names them."""

    key: str
    dtype: torch.dtype
    num_elements: int


class _Pickler(pickle.Pickler):
    """Describes tensors as torch.save does, and keeps them in `tensors`, by the name of their numbers."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)
        self.tensors: dict[str, Tensor | StreamedTensor] = {}

    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        """What stands for the numbers of a tensor."""
        if not isinstance(obj, _Storage):
            return None
        return "storage", _STORAGES[obj.dtype], obj.key, "cpu", obj.num_elements

    def reducer_override(self, obj: Any) -> Any:
        """How a tensor is made again."""
        if not isinstance(obj, (Tensor, StreamedTensor)):
            return NotImplemented
        if isinstance(obj, Tensor):
            obj = obj.detach().contiguous()
        key = str(len(self.tensors))
        self.tensors[key] = obj
        shape, stride = tuple(obj.shape), obj.stride if isinstance(obj, StreamedTensor) else obj.stride()
        storage = _Storage(key, obj.dtype, torch.Size(shape).numel())
        rebuild = torch._utils._rebuild_tensor_v2
        return rebuild, (storage, 0, shape, stride, False, collections.OrderedDict())


def holds_streamed(value: Any) -> bool:
    """Whether there is a `StreamedTensor` in nested dicts, lists and tuples."""
    if isinstance(value, Mapping):
        return any(map(holds_streamed, value.values()))
    return any(map(holds_streamed, value)) if isinstance(value, (list, tuple)) else isinstance(value, StreamedTensor)


def save_streamed(value: Mapping[str, Any], stream: Stream) -> None:
    """Write what `torch.load(…, weights_only=True)` reads as `value`, with tensors in the place of `StreamedTensor`s.

    Args:
        value: tensors on the CPU, `StreamedTensor`s and plain values.
        stream: written from its beginning; it need not seek.

    Raises:
        RuntimeError: the parts of a tensor have not its number of elements.
    """
    described = io.BytesIO()
    pickler = _Pickler(described)
    pickler.dump(dict(value))
    counting = _CountingStream(stream)
    with zipfile.ZipFile(counting, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for name, data in (("data.pkl", described.getvalue()), ("byteorder", sys.byteorder.encode())):
            _add(archive, counting, name, iter([data]))
        for key, tensor in pickler.tensors.items():
            _add(archive, counting, f"data/{key}", _bytes_of(tensor))
        _add(archive, counting, "version", iter([b"3\n"]))


def _bytes_of(tensor: Tensor | StreamedTensor) -> Iterator[Any]:
    parts = iter([tensor.reshape(-1)]) if isinstance(tensor, Tensor) else tensor.parts()
    num_bytes = 0
    for part in parts:
        num_bytes += part.nbytes
        if part.numel():
            yield part.view(torch.uint8).numpy().data
    if num_bytes != tensor.nbytes:
        raise RuntimeError(f"{num_bytes:,} bytes arrived of a tensor of {tensor.nbytes:,}.")


def _add(archive: zipfile.ZipFile, stream: _CountingStream, name: str, blocks: Iterator[Any]) -> None:
    member = zipfile.ZipInfo(f"{_TOP}/{name}", _FIXED_DATE)
    # A field that readers skip moves the member's first byte to a multiple of ALIGNMENT.
    start = stream.num_bytes + _HEAD_BYTES + len(member.filename) + _SIZES_BYTES + 4
    num_padding = -start % ALIGNMENT
    member.extra = b"FB" + num_padding.to_bytes(2, "little") + b"Z" * num_padding
    with archive.open(member, "w", force_zip64=True) as file:
        for block in blocks:
            file.write(block)


class _CountingStream:
    """Passes on what is written, and counts it. It cannot seek, so that zipfile writes from front to back."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self.num_bytes = stream, 0

    def write(self, data: Any) -> int:
        """As in a file."""
        written = self._stream.write(data)
        self.num_bytes += written
        return written

    def flush(self) -> None:
        """As in a file."""
        self._stream.flush()
