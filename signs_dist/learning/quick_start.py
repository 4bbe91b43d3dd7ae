"""Optimizers and DistributedDataParallel that do not import torch.compile, which costs each process 2.4 s at its start.

torch imports its compiler, torch._dynamo, in three places: the first optimizer marks a few of its methods for it,
DistributedDataParallel asks it for a setting, and torch.use_deterministic_algorithms sets an option of it (see
distributed/exactness.py). The subclasses made here do not import it. They change nothing in torch itself and compute
the same, and a network that compiles itself still imports the compiler.

This depends on details of torch. A release with other details imports the compiler at the start again, and
tests/learning/test_quick_start.py fails.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch.nn.parallel import DistributedDataParallel

Kind = TypeVar("Kind", bound=type[torch.optim.Optimizer])

COMPILER = "torch._dynamo"
"""The module that is not imported."""
_MARKED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
"""Methods of an optimizer that torch marks for the compiler when they are called first."""


def without_compiler(kind: Kind) -> Kind:
    """A subclass of an optimizer class of torch that does not import the compiler; `kind` if it is imported already.

    It does not support `differentiable=True`: its step always runs without gradients.
    """
    if COMPILER in sys.modules:
        return kind
    own: Kind = _optimizer_subclass(cast("Any", kind))
    return own


def distributed_without_compiler() -> type[DistributedDataParallel]:
    """A subclass of DistributedDataParallel that does not import the compiler; the class itself if it is imported.

    The compiler's mode for DistributedDataParallel is then its default, `ddp_optimizer`.
    """
    return DistributedDataParallel if COMPILER in sys.modules else _distributed_subclass()


@functools.cache
def _optimizer_subclass(kind: Any) -> Any:
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _MARKED}
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(inspect.unwrap(kind.step))})


@functools.cache
def _distributed_subclass() -> type[DistributedDataParallel]:
    base: Any = DistributedDataParallel
    methods: dict[str, Any] = {"__init__": _with_globals(base.__init__, torch=_TorchWithoutCompiler())}
    if hasattr(base, "_inside_ddp_forward"):
        methods["_inside_ddp_forward"] = contextlib.contextmanager(inspect.unwrap(base._inside_ddp_forward))
    return type(base.__name__, (base,), methods)


def _with_globals(function: Callable[..., Any], **changes: Any) -> Callable[..., Any]:
    """A copy of a function that sees other values for some global names of its module."""
    origin: Any = inspect.unwrap(function)
    copied = types.FunctionType(
        origin.__code__, {**origin.__globals__, **changes}, origin.__name__, origin.__defaults__, origin.__closure__
    )
    copied.__kwdefaults__ = origin.__kwdefaults__
    return functools.wraps(origin)(copied)


class _Fallback:
    """Has the given attributes. To read any other attribute, it imports a module and reads it there."""

    def __init__(self, module: str, **given: Any) -> None:
        self._module = module
        vars(self).update(given)

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._module), name)


class _TorchWithoutCompiler(_Fallback):
    """`torch` for DistributedDataParallel's constructor: `_dynamo` answers one question without being imported."""

    def __init__(self) -> None:
        utilities = _Fallback(f"{COMPILER}.utils", get_optimize_ddp_mode=lambda: "ddp_optimizer")
        super().__init__("torch", _dynamo=_Fallback(COMPILER, utils=utilities))
