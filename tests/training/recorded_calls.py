"""A recorder without a GPU: it records the calls of ATen that a function makes, and repeats them on the same memory.

It does to a function what a CUDA graph does: Python runs once, at the recording, and numbers of Python are in the
recording for ever; a replay repeats the operations on the tensors of the recording. Before a replay all that the
recording had computed is overwritten with NaN, so that whatever is not computed again is seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from signs_dist.data.generators import device_generator_kept

CPU = torch.device("cpu")
WAITS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select")
"""Operations whose result the host needs: on a GPU it waits for them, which a capture does not permit."""
WRITES_UNMARKED = {"native_batch_norm": (3, 4)}
"""Operation → arguments that it writes to, though its schema does not say so."""


class _Calls(TorchDispatchMode):
    """Notes each call of ATen, and keeps what the calls overwrite."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.before: list[tuple[Tensor, Tensor]] = []
        self.made: set[int] = set()
        self._kept: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        if name in WAITS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        for tensor in _written(func, name, args, kwargs):
            storage = _storage(tensor)
            if storage not in self.made and storage not in self._kept:
                self._kept.add(storage)
                self.before.append((tensor, tensor.detach().clone()))
        given = {_storage(leaf) for leaf in _tensors((args, kwargs))}
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, result))
        self.made |= {_storage(leaf) for leaf in _tensors(result)} - given
        return result


class CallRecorder:
    """A `Recorder` for tests, on the CPU."""

    num_recovered = 0

    def warm_up(self, work: Callable[[], None]) -> None:
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        calls = _Calls()
        with device_generator_kept(CPU):
            try:
                with calls:
                    work()
            finally:  # as if nothing had been computed
                with _quietly():
                    for tensor, before in calls.before:
                        tensor.copy_(before)

        def replay() -> None:
            with _quietly():
                _poison(calls)
                for func, args, kwargs, result in calls.calls:
                    given = {_storage(leaf) for leaf in _tensors((args, kwargs))}
                    for mine, again in zip(_tensors(result), _tensors(func(*args, **kwargs)), strict=True):
                        if _storage(mine) not in given:
                            mine.copy_(again)

        return replay

    def recover(self) -> None:
        CallRecorder.num_recovered += 1


def _poison(calls: _Calls) -> None:
    for _, _, _, result in calls.calls:
        for tensor in _tensors(result):
            if _storage(tensor) in calls.made and tensor.dtype != torch.bool:
                tensor.fill_(float("nan") if tensor.is_floating_point() else 77)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    with torch.no_grad(), torch._C._AutoDispatchBelowAutograd():
        yield


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _written(func: Any, name: str, args: Any, kwargs: Any) -> list[Tensor]:
    unmarked = WRITES_UNMARKED.get(name, ())
    found = []
    for place, argument in enumerate(func._schema.arguments):
        value = args[place] if place < len(args) else kwargs.get(argument.name)
        if place in unmarked or (argument.alias_info is not None and argument.alias_info.is_write):
            found += _tensors(value)
    return found
