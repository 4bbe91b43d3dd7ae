"""The SHA-256 of a run's state: weights, average, optimizer, scaler and place.

It is a function of the numbers alone. It does not depend on the number of processes, on whether they shared the
optimizer, on the memory format of a tensor, or on how the optimizer is executed. Each tensor is hashed by itself, in
the order of its indices, so tensors may arrive in any order.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from signs_dist.checkpointing.streamed import StreamedTensor

PARTS = ("model", "ema", "optimizer", "scaler", "place")
"""The parts of a state, each with a digest of its own."""
EXECUTION = ("foreach", "fused", "capturable", "differentiable")
"""Entries of an optimizer's groups that say how it is executed, not what it computes."""
_PLACE = ("cursor", "images")
_Places = tuple[object, ...]


def state_sha256(content: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the state in the content of a checkpoint, of `read_checkpoint` or `RunState.to_content`.

    Args:
        content: on the CPU or a GPU. It is not changed.

    Raises:
        TypeError: a value of the state is neither a tensor nor plain.
    """
    return sha256_of_parts(parts_sha256(content))


def sha256_of_parts(parts: Mapping[str, str]) -> str:
    """The SHA-256 (hex) of a state whose `parts_sha256` are known."""
    return _sha256_of_lines(f"{name}\0{parts[name]}" for name in PARTS)


def parts_sha256(content: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 (hex) of each part of a state, by the names of `PARTS`. Arguments and errors as for `state_sha256`."""
    place = {name: content[name] for name in _PLACE}
    values = {name: place if name == "place" else _state_of(name, content.get(name)) for name in PARTS}
    return {name: _sha256_of_lines(sorted(_lines(value, name == "optimizer"))) for name, value in values.items()}


class PassingState:
    """The digest of a state whose tensors arrive while its checkpoint is written.

    Args:
        content: of a checkpoint, with or without `StreamedTensor`s.

    Attributes:
        content: the same content, to be written. Each streamed tensor is hashed as its numbers pass.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._streams: list[_HashedStream] = []
        self.content: dict[str, Any] = self._watched(dict(content))

    def parts_sha256(self) -> dict[str, str]:
        """As `parts_sha256`. Tensors that were not asked for while the checkpoint was written are taken now.

        Raises:
            RuntimeError: numbers of a tensor did not arrive.
        """
        for stream in self._streams:
            stream.take_rest()
        return parts_sha256(self.content)

    def _watched(self, value: Any) -> Any:
        if isinstance(value, StreamedTensor):
            stream = _HashedStream(value)
            self._streams.append(stream)
            return _Watched(value.shape, value.stride, value.dtype, stream.parts, stream)
        if isinstance(value, dict):
            return {key: self._watched(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._watched(item) for item in value)
        return value


@dataclasses.dataclass(frozen=True)
class _Watched(StreamedTensor):
    """A streamed tensor whose numbers are hashed as they pass."""

    stream: _HashedStream


class _HashedStream:
    """The numbers of a streamed tensor on their way. They pass in the order of its memory."""

    def __init__(self, tensor: StreamedTensor) -> None:
        self._tensor, self._hasher = tensor, _RowMajorHasher(tensor)
        self._rest: Iterator[Tensor] | None = None

    def parts(self) -> Iterator[Tensor]:
        """The parts of the tensor; each is hashed when the next is asked for."""
        if self._rest is None:
            self._rest = self._tensor.parts()
        for part in self._rest:
            self._hasher.update(part)
            yield part

    def take_rest(self) -> None:
        """Hash what nobody has asked for."""
        for _ in self.parts():
            pass

    def sha256(self) -> str:
        """SHA-256 (hex) of the numbers in the order of the tensor's indices."""
        return self._hasher.hexdigest()


class _RowMajorHasher:
    """Hashes numbers that arrive in the order of a tensor's memory, in the order of its indices.

    The two differ for tensors in PyTorch's channels_last format. Its outermost dimension is the same in both orders, so
    one slice of that dimension is held at a time, not the tensor.
    """

    def __init__(self, tensor: StreamedTensor) -> None:
        self._hasher, self._waiting = hashlib.sha256(), list[Tensor]()
        self._num_waiting, self._num_bytes, self._expected = 0, 0, tensor.nbytes
        self._shape, self._stride = _slice_of(tensor)
        self._num_elements = math.prod(self._shape)
        self._is_in_order = self._stride == _row_major(self._shape)

    def update(self, part: Tensor) -> None:
        """Take the next numbers, a flat tensor on the CPU."""
        self._num_bytes += part.nbytes
        if self._is_in_order:
            _hash_into(self._hasher, part)
            return
        while part.numel():
            missing = self._num_elements - self._num_waiting
            # A copy: the memory of a part may be used again for the next.
            self._waiting.append(part[:missing].clone())
            self._num_waiting += self._waiting[-1].numel()
            part = part[missing:]
            if self._num_waiting == self._num_elements:
                whole = torch.cat(self._waiting).as_strided(self._shape, self._stride)
                _hash_into(self._hasher, whole.contiguous())
                self._waiting, self._num_waiting = [], 0

    def hexdigest(self) -> str:
        """SHA-256 (hex). Raises RuntimeError if numbers are missing."""
        if self._num_bytes != self._expected:
            raise RuntimeError(f"{self._num_bytes:,} bytes arrived of a tensor of {self._expected:,}.")
        return self._hasher.hexdigest()


def _slice_of(tensor: StreamedTensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and stride of what must be held to bring the numbers in the order of the indices."""
    shape, stride = tuple(tensor.shape), tuple(tensor.stride)
    if len(shape) > 1 and stride[0] == math.prod(shape[1:]):
        return shape[1:], stride[1:]
    return shape, stride


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[number + 1 :]) for number in range(len(shape)))


def _hash_into(hasher: Any, tensor: Tensor) -> None:
    if tensor.numel():
        hasher.update(tensor.reshape(-1).view(torch.uint8).numpy().data)


def _state_of(name: str, value: Any) -> Any:
    """The part of a state that has a digest."""
    if name != "optimizer" or value is None:
        return value
    groups = [{key: item for key, item in group.items() if key not in EXECUTION} for group in value["param_groups"]]
    return {**value, "param_groups": groups}


def _lines(value: Any, has_numbers: bool, place: _Places = ()) -> Iterator[str]:
    """A line for each tensor and each plain value in nested dicts, lists and tuples, with its place.

    Args:
        value: tensors and plain values.
        has_numbers: whether tensors without dimensions count as numbers: optimizers keep a number of steps as either.
        place: of the value.
    """
    if isinstance(value, Mapping):
        yield f"{place!r}\0{len(value)} entries"
        for key, item in value.items():
            yield from _lines(item, has_numbers, (*place, key))
    elif isinstance(value, (list, tuple)):
        yield f"{place!r}\0{len(value)} items"
        for number, item in enumerate(value):
            yield from _lines(item, has_numbers, (*place, number))
    else:
        yield f"{place!r}\0{_describe(value, has_numbers)}"


def _describe(value: Any, has_numbers: bool) -> str:
    if isinstance(value, Tensor) and value.dim() == 0 and has_numbers:
        value = value.item()
    if isinstance(value, _Watched):
        return _describe_tensor(value, value.stream.sha256())
    if isinstance(value, Tensor):
        hasher = hashlib.sha256()
        _hash_into(hasher, value.detach().cpu().contiguous())
        return _describe_tensor(value, hasher.hexdigest())
    if type(value) in (int, float):
        return f"number {_exactly(value)}"
    if value is None or type(value) in (str, bool):
        return repr(value)
    raise TypeError(f"a state holds tensors and plain values, not {type(value).__name__}")


def _describe_tensor(tensor: Tensor | StreamedTensor, sha256: str) -> str:
    return f"{tensor.dtype} {list(tensor.shape)} {sha256}"


def _exactly(number: float) -> str:
    """A number in full. 5 and 5.0 are the same number; 0.0 and -0.0 are not."""
    if isinstance(number, int):
        return str(number)
    is_whole = math.isfinite(number) and number.is_integer() and not (number == 0 and math.copysign(1.0, number) < 0)
    return str(int(number)) if is_whole else number.hex()


def _sha256_of_lines(lines: Iterable[str]) -> str:
    hasher = hashlib.sha256()
    for line in lines:
        hasher.update(f"{len(line)} {line}\n".encode("utf-8", "surrogatepass"))
    return hasher.hexdigest()
