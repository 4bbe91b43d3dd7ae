"""Copying, writing and hashing the tensors of a model or a run, and loading them into a model or an optimizer."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from io import RawIOBase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.checkpointing.streamed import StreamedTensor, holds_streamed, save_streamed
from signs_dist.errors import UserError, require_kind
from signs_dist.files import written_aside
from signs_dist.models.weights import differences, named_weights

Weights = Mapping[str, Tensor]
BLOCK_BYTES = 2**22
"""Bytes per write."""
_PLAIN = (str, int, float, complex, bool, bytes, type(None), torch.Size, torch.dtype, torch.device)


def save(path: Path, value: Mapping[str, Any]) -> None:
    """Write tensors and plain values to `path`, so that `torch.load(path, weights_only=True)` reads them back."""
    with written_aside(path) as aside, aside.open("wb", buffering=0) as file:
        write_to(file, value)


def write_to(file: RawIOBase, value: Mapping[str, Any], at_quarter: Callable[[int], None] | None = None) -> Written:
    """Write tensors and plain values to an open file, so that `torch.load(…, weights_only=True)` reads them back.

    Args:
        file: unbuffered; written from its current position.
        value: tensors on the CPU, `StreamedTensor`s and plain values.
        at_quarter: called with 1 to 4 as each quarter of the bytes has been written.

    Raises:
        OSError: the file cannot be written. Its attribute `num_bytes` is the size that the file would have had.
    """
    stream = _DigestingStream(file, max(1, num_tensor_bytes(value)), at_quarter or (lambda number: None))
    if holds_streamed(value):
        save_streamed(value, stream)
    else:
        torch.save(dict(value), stream)  # type: ignore[arg-type]
    return stream.finish()


@dataclasses.dataclass(frozen=True)
class Written:
    """The number of bytes written, and their SHA-256 (hex)."""

    num_bytes: int
    sha256: str


class _DigestingStream:
    """Writes and hashes in blocks without Python's global lock, so that training continues meanwhile.

    torch's writer turns an OSError into a RuntimeError about file positions, and continues to write. So this class
    keeps the first error for `finish`, and only counts the bytes after it.
    """

    def __init__(self, file: RawIOBase, expected_bytes: int, at_quarter: Callable[[int], None]) -> None:
        self._file, self._expected_bytes, self._at_quarter = file, expected_bytes, at_quarter
        self._hasher, self._num_bytes, self._quarter = hashlib.sha256(), 0, 0
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        """As in a file."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), BLOCK_BYTES):
            self._write_block(view[start : start + BLOCK_BYTES])
        return len(view)

    def flush(self) -> None:
        """As in a file; nothing is buffered."""

    def finish(self) -> Written:
        """The size and the SHA-256. Raises the first OSError."""
        if self._error is not None:
            self._error.num_bytes = self._num_bytes  # type: ignore[attr-defined]
            raise self._error
        self._report_quarters(4)
        return Written(self._num_bytes, self._hasher.hexdigest())

    def _write_block(self, block: memoryview) -> None:
        self._num_bytes += len(block)
        if self._error is not None:
            return
        self._hasher.update(block)
        try:
            while block:
                block = block[self._file.write(block) or 0 :]
        except OSError as error:
            self._error = error
        self._report_quarters(min(4, 4 * self._num_bytes // self._expected_bytes))

    def _report_quarters(self, number: int) -> None:
        while self._quarter < number:
            self._quarter += 1
            self._at_quarter(self._quarter)


def num_tensor_bytes(value: Any) -> int:
    """Bytes of all tensors in nested dicts, lists and tuples."""
    if isinstance(value, (Tensor, StreamedTensor)):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(num_tensor_bytes, value.values()))
    return sum(map(num_tensor_bytes, value)) if isinstance(value, (list, tuple)) else 0


def find_other_values(value: Any, name: str = "content") -> str:
    """Text on the first value that is neither a tensor nor plain: `content['scaler'] is a GradScaler`; "" without one.

    A subclass of a plain type, such as numpy.float64, is not plain: torch.load(…, weights_only=True) refuses it.
    """
    if isinstance(value, Tensor) or type(value) in _PLAIN:
        return ""
    items: Iterable[tuple[Any, Any]]
    if isinstance(value, dict):
        items = value.items()
    elif type(value) in (list, tuple):
        items = enumerate(value)
    else:
        return f"{name} is a {type(value).__name__}"
    return next((wrong for key, item in items if (wrong := find_other_values(item, f"{name}[{key!r}]"))), "")


class Copier:
    """Copies nested dicts, lists and tuples. Copied tensors are on the CPU, contiguous, and share no memory.

    Each copy reuses the memory of the previous copy, since allocating takes longer than copying. The previous copy must
    no longer be in use.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[Any, ...], Tensor] = {}

    def copy(self, value: Any) -> Any:
        """A copy of `value`."""
        self._before, self._buffers = self._buffers, {}
        self._is_on_gpu = False
        result = self._copy(value, ())
        if self._is_on_gpu:
            torch.cuda.synchronize()
        return result

    def _copy(self, value: Any, place: tuple[Any, ...]) -> Any:
        if isinstance(value, Tensor):
            return self._copy_tensor(value.detach(), place)
        if isinstance(value, Mapping):
            return {key: self._copy(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._copy(item, (*place, number)) for number, item in enumerate(value))
        return value

    def _copy_tensor(self, tensor: Tensor, place: tuple[Any, ...]) -> Tensor:
        buffer = self._before.get(place)
        on_gpu = tensor.device.type == "cuda"
        if buffer is None or (buffer.shape, buffer.dtype) != (tensor.shape, tensor.dtype):
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=on_gpu)
        self._is_on_gpu |= on_gpu
        self._buffers[place] = buffer
        return buffer.copy_(tensor, non_blocking=on_gpu)


def put_optimizer(
    optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], source: Path, kept: Collection[str] | None = None
) -> None:
    """Load saved state and learning rates into an optimizer. Its other settings, such as fused kernels, stay.

    Args:
        optimizer: over the same parameters.
        saved: its state dict.
        source: the file, for messages.
        kept: for an optimizer that keeps what it computes in its groups: the entries of groups that stay; all others
            are loaded. None: as above.

    Raises:
        UserError: the state belongs to an optimizer of other parameters.
    """
    groups = loaded_groups(numbered_groups(optimizer.param_groups), saved["param_groups"], source, kept)
    optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})
    restore_layout(optimizer)


def numbered_groups(groups: Sequence[Mapping[str, Any]], sizes: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Groups as in the state dict of an optimizer: in place of parameters their numbers.

    Args:
        groups: `param_groups` of an optimizer.
        sizes: how many parameters each group has; None: as many as it holds.
    """
    numbered, first = [], 0
    for group, size in zip(groups, sizes or [len(group["params"]) for group in groups], strict=True):
        numbered.append({**group, "params": list(range(first, first + size))})
        first += size
    return numbered


def loaded_groups(
    own: Sequence[Mapping[str, Any]],
    saved: Sequence[Mapping[str, Any]],
    source: Path,
    kept: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """The groups of an optimizer with what is loaded of saved ones; arguments and errors as for `put_optimizer`."""
    if [len(group["params"]) for group in own] != [len(group["params"]) for group in saved]:
        raise UserError(f"{source} holds an optimizer of other parameters. Use the config that it was made with.")
    return [
        {**group, **{name: value for name, value in saved_group.items() if _is_loaded(name, kept)}}
        for group, saved_group in zip(own, saved, strict=True)
    ]


def restore_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give each loaded state memory of its own, in the layout of its parameter."""
    # Entries of a file may share memory, which a step would change several times. And files hold contiguous tensors:
    # fused kernels need a parameter's state in the memory layout of the parameter.
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            for name, value in state.items():
                if isinstance(value, Tensor):
                    is_like = value.shape == parameter.shape
                    state[name] = (
                        torch.empty_like(parameter, dtype=value.dtype).copy_(value) if is_like else value.clone()
                    )


def _is_loaded(name: str, kept: Collection[str] | None) -> bool:
    """Whether an entry of an optimizer's group is loaded; see `put_optimizer`."""
    return name == "lr" if kept is None else name not in kept


def put_weights(model: nn.Module, weights: Weights, source: Path) -> None:
    """Copy weights into a model. Every name and shape must match.

    Raises:
        UserError: they are weights of another model.
    """
    own = named_weights(model)
    if misfit := differences(own, weights):
        raise UserError(
            f"{source} holds the weights of another model: {misfit}. Use the config that it was trained with."
        )
    with torch.no_grad():
        for name, tensor in weights.items():  # all names except counters
            own[name].copy_(tensor)


def plain_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's weights on the CPU, contiguous, by their plain names (without prefixes of wrappers)."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in named_weights(model).items()}


def weights_sha256(weights: nn.Module | Weights) -> str:
    """SHA-256 (hex) over the names, dtypes, shapes and bytes of all tensors, in the order of their names.

    Args:
        weights: a network, or its state dict. The names in a network are used without the prefixes that
            DistributedDataParallel, nn.DataParallel and torch.compile add.

    Example:
        >>> import torch, signs_dist as sd
        >>> net = torch.nn.Linear(2, 1)
        >>> sd.weights_sha256(net) == sd.weights_sha256(net.state_dict())
        True
        >>> sd.weights_sha256({"weight": torch.zeros(2)})[:8]
        '92386495'
    """
    require_kind("weights", weights, (nn.Module, Mapping), "weights_sha256(net), or its state_dict()")
    if isinstance(weights, nn.Module):
        weights = named_weights(weights)
    hasher = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        hasher.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        hasher.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return hasher.hexdigest()
