"""Leaves the machinery of torch.compile unloaded until something compiles: it costs each process 2.4 s to import.

torch loads it when the first optimizer is made and steps, to have the compiler leave a few methods alone; when
DistributedDataParallel is made, to ask for a setting of it; and with torch.use_deterministic_algorithms. A model that
compiles itself loads it as always. All of this rests on details of torch: a release that has others loads the compiler
at start again, and computes the same; tests/test_quick_start.py tells.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
import types
from collections.abc import Iterator
from typing import Any, TypeVar, cast

import torch
from torch.nn.parallel import DistributedDataParallel

Kind = TypeVar("Kind", bound=type[torch.optim.Optimizer])

COMPILER = "torch._dynamo"
"""The module that is not to be loaded. torch._inductor loads it too."""


def without_compiler(kind: Kind) -> Kind:
    """The same optimizer, whose methods do not mark for the compiler what it is to leave alone.

    Not for `differentiable=True`: the step is always taken without gradients.
    """
    if COMPILER in sys.modules:
        return kind
    _spare(torch.optim.Optimizer, "add_param_group", "zero_grad", "state_dict", "load_state_dict")
    own: Kind = _with_plain_step(cast("Any", kind))
    return own


@contextlib.contextmanager
def distributed_without_compiler() -> Iterator[None]:
    """Within the block, DistributedDataParallel is made without asking the compiler for its mode: it is the default."""
    if COMPILER in sys.modules:
        yield
        return
    _spare(DistributedDataParallel, "_inside_ddp_forward")
    answer = types.SimpleNamespace(utils=types.SimpleNamespace(get_optimize_ddp_mode=lambda: "ddp_optimizer"))
    vars(torch)["_dynamo"] = answer
    try:
        yield
    finally:
        if vars(torch).get("_dynamo") is answer:  # else something in the block has loaded it after all
            del vars(torch)["_dynamo"]


def use_deterministic_algorithms() -> None:
    """As torch.use_deterministic_algorithms(True): an operation without such a kernel raises RuntimeError."""
    os.environ["TORCHINDUCTOR_DETERMINISTIC"] = "1"  # read by a compiler that is loaded later
    if "torch._inductor" in sys.modules:
        torch.use_deterministic_algorithms(True)
    else:
        torch.set_deterministic_debug_mode("error")


@functools.cache
def _with_plain_step(kind: Any) -> Any:
    return type(kind.__name__, (kind,), {"step": torch.no_grad()(inspect.unwrap(kind.step))})


def _spare(owner: type, *names: str) -> None:
    """Have torch call these methods as they are. It keeps beside each, once the compiler is there, what to call."""
    for name in names:
        method: Any = getattr(owner, name, None)
        if method is not None:
            method = inspect.unwrap(method)
            method.__dynamo_disable = method
