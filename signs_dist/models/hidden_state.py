"""What a forward pass can leave behind outside of parameters and buffers: attributes, globals, random generators.

No checkpoint holds such state, and each process has its own. Exact mode compares it between trial passes.
"""

from __future__ import annotations

import collections
import contextvars
import dataclasses
import enum
import functools
import hashlib
import itertools
import operator
import os
import random
import sys
import types
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from signs_dist.models.standard_objects import has_attributes, value_of

PYTHON_GENERATOR = "Python's `random`"
NUMPY_GENERATOR = "NumPy's global generator"
ENVIRONMENT = "the environment variable "
"""The environment variables are looked at like attributes, under this word and their names."""

_LIBRARIES = frozenset({"torch", "torchvision", "numpy", "signs_dist", *sys.stdlib_module_names})
_MARKS_OF_INSTALLED = ("site-packages", "dist-packages")
_SEEN_ELSEWHERE = ("_parameters", "_buffers", "_modules")
"""Attributes of a module that hold what a checkpoint holds, or other modules."""
_MOST_VALUES = 100_000
"""Values that one look takes at most. What lies behind them is not compared."""
_DEEPEST = 16
_PLAIN = (type(None), bool, int, str, bytes, complex, torch.dtype, torch.device, torch.Size)
_UNSHOWN = object()


@dataclasses.dataclass(frozen=True)
class HiddenState:
    """Values by name, such as `layers.0.calls`; equal values mean that nothing was left behind.

    Attributes:
        values: of attributes, of globals, of the environment and of the global generators of Python and NumPy.
    """

    values: Mapping[str, Hashable]

    def first_difference(self, other: HiddenState) -> str:
        """The name of the first value that `other` has not, or has otherwise; "" if all are equal."""
        for name, value in self.values.items():
            if other.values.get(name, _UNSHOWN) != value:
                return name
        return next((name for name in other.values if name not in self.values), "")


def look(model: nn.Module) -> HiddenState:
    """Everything that a forward pass of `model` can have changed beside parameters, buffers and torch's generators.

    It looks at the attributes of all submodules, of their tensors and of the objects that hang on them, at the
    attributes of their classes, and at the globals, defaults and closures of the functions of these classes. Of the
    classes and modules of installed packages it takes plain values only. It does not look into files.
    """
    walk = _Walk({id(tensor) for tensor in (*model.parameters(), *model.buffers())})
    walk.values[PYTHON_GENERATOR] = random.getstate()
    walk.values[NUMPY_GENERATOR] = repr(np.random.get_state(legacy=False))
    walk.values.update({f"{ENVIRONMENT}{name}": value for name, value in os.environ.items()})
    for name, module in model.named_modules():
        walk.visit_attributes(name, module, 0)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        walk.visit_dictionary(name, tensor, 0)
    return HiddenState(walk.values)


def is_library(module: str | None) -> bool:
    """Whether a module is part of Python, of torch or of another installed package, and not the user's own."""
    return module is None or _is_library(module)


@functools.cache
def _is_library(module: str) -> bool:
    if module == "__main__":  # the user's program, or a notebook
        return False
    if module.partition(".")[0] in _LIBRARIES:
        return True
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return any(mark in file for mark in _MARKS_OF_INSTALLED)


class _Walk:
    """One look at the state behind a model.

    Args:
        saved: ids of the tensors that a checkpoint holds.

    Attributes:
        values: the values found so far, by name.
    """

    def __init__(self, saved: set[int]) -> None:
        self.values: dict[str, Hashable] = {}
        self._saved = saved
        self._visited: dict[int, Any] = {}  # keeps the objects, so that no id is used again

    def visit(self, name: str, value: Any, depth: int) -> None:
        """Add `value`, and all that it refers to."""
        if depth >= _DEEPEST or len(self.values) >= _MOST_VALUES:
            return
        if isinstance(value, _PLAIN):
            self.values[name] = value if not isinstance(value, bool) else str(value)  # True == 1
        elif isinstance(value, float):
            self.values[name] = value.hex()  # nan is not equal to itself
        elif id(value) in self._saved:
            self.values[name] = "saved"
        elif self._is_new(value) or isinstance(value, (Tensor, np.ndarray)):
            try:
                self._visit_object(name, value, depth + 1)
            except Exception:  # noqa: BLE001  an object that cannot be looked at must not end the run
                self.values[name] = type(value).__name__

    def _is_new(self, value: Any) -> bool:
        if id(value) in self._visited:
            return False
        self._visited[id(value)] = value
        return True

    def _visit_object(self, name: str, value: Any, depth: int) -> None:
        if isinstance(value, (Tensor, np.ndarray, np.generic)):
            self.values[name] = _array_digest(value)
            self.visit_dictionary(name, value, depth)
        elif (state := _generator_state(value)) is not None:
            self.values[name] = state
        elif isinstance(value, (Mapping, list, tuple, collections.deque, set, frozenset)):
            self._visit_container(name, value, depth)
        elif isinstance(value, contextvars.ContextVar):
            self.visit(name, value.get(None), depth)
        elif isinstance(value, functools.partial):
            for part in (value.func, value.args, value.keywords):
                self.visit(name, part, depth)
        elif isinstance(value, types.MethodType):
            self.visit(name, value.__self__, depth)
            self.visit(name, value.__func__, depth)
        elif isinstance(value, (staticmethod, classmethod)):
            self.visit(name, value.__func__, depth)
        elif isinstance(value, property):
            self.visit(name, value.fget, depth)
        elif isinstance(value, types.FunctionType):
            self._visit_function(name, value, depth)
        elif isinstance(value, type):
            self._visit_class(value, depth)
        elif isinstance(value, types.GeneratorType):
            self._visit_generator(name, value, depth)
        elif (held := value_of(value)) is not None:
            self.values[name] = held
        elif isinstance(value, Iterator):
            self.values[name] = _position(value)
        else:
            self.values[name] = (type(value).__name__, value.name if isinstance(value, enum.Enum) else "")
            if isinstance(value, nn.Module) or _is_own_object(value) or has_attributes(value):
                self.visit_attributes(name, value, depth)

    def visit_dictionary(self, name: str, value: Any, depth: int) -> None:
        """Add what was set on an object of another kind, such as a tensor."""
        for key, item in list(getattr(value, "__dict__", {}).items()):
            self.visit(f"{name}.{key}", item, depth + 1)

    def visit_attributes(self, name: str, value: Any, depth: int) -> None:
        """Add the attributes of an object, and of its class."""
        self._is_new(value)
        prefix = f"{name}." if name else ""
        is_submodule = isinstance(value, nn.Module) and depth == 0
        for key, item in _attributes(value):
            if not (is_submodule and key in _SEEN_ELSEWHERE) and not _is_empty(item):
                self.visit(f"{prefix}{key}", item, depth + 1)
        self.visit("", type(value), depth)

    def _visit_container(self, name: str, value: Any, depth: int) -> None:
        self.values[name] = (type(value).__name__, len(value))
        if isinstance(value, Mapping):
            for key, item in list(value.items()):
                self.visit(f"{name}[{key!r}]" if isinstance(key, _PLAIN) else f"{name}[…]", item, depth)
        elif isinstance(value, (set, frozenset)):
            self.values[name] = frozenset(item if isinstance(item, _PLAIN) else id(item) for item in value)
        else:
            for number, item in enumerate(value):
                self.visit(f"{name}[{number}]", item, depth)
        if not is_library(type(value).__module__):
            self.visit_dictionary(name, value, depth)

    def _visit_generator(self, name: str, value: types.GeneratorType[Any, Any, Any], depth: int) -> None:
        frame = value.gi_frame
        self.values[name] = frame.f_lasti if frame is not None else "done"
        if frame is not None:
            for variable, item in list(frame.f_locals.items()):
                self.visit(f"{name}.{variable}", item, depth)

    def _visit_class(self, kind: type, depth: int) -> None:
        """Add the attributes of a class and of its bases, and what its methods refer to."""
        for base in kind.__mro__:
            if is_library(base.__module__):
                self._visit_plain(base.__name__, vars(base), vars(base).keys())
                continue
            self._is_new(base)
            for key, item in list(vars(base).items()):
                if not key.startswith("__") or isinstance(item, types.FunctionType):
                    self.visit(f"{base.__name__}.{key}", item, depth)

    def _visit_function(self, name: str, function: types.FunctionType, depth: int) -> None:
        """Add what a function keeps between its calls: attributes, defaults, closure, the globals that it names."""
        wrapped = vars(function).get("__wrapped__")
        if is_library(function.__module__) and wrapped is None:
            return
        called = function.__qualname__.replace(".<locals>", "")
        self.visit(f"{called}.attributes", dict(vars(function)), depth)
        self.visit(f"a default of {called}", function.__defaults__, depth)
        self.visit(f"a default of {called}", function.__kwdefaults__, depth)
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for variable, cell in cells:
            if (content := _content(cell)) is not _UNSHOWN:
                self.visit(f"{variable} of {called}", content, depth)
        names = _names(function.__code__)
        for key in names & function.__globals__.keys():
            self._visit_global(function.__module__, key, function.__globals__[key], names, depth)

    def _visit_global(self, module: str, key: str, value: Any, names: frozenset[str], depth: int) -> None:
        if not isinstance(value, types.ModuleType):
            self.visit(f"{module}.{key}", value, depth)
        elif not is_library(value.__name__):
            for inner in names & vars(value).keys():
                if not isinstance(vars(value)[inner], types.ModuleType):
                    self.visit(f"{value.__name__}.{inner}", vars(value)[inner], depth)
        else:
            self._visit_plain(value.__name__, vars(value), names & vars(value).keys())

    def _visit_plain(self, name: str, values: Mapping[str, Any], keys: Collection[str]) -> None:
        """Add the plain values of a library's class or module, on which a user's code may have set one."""
        for key in keys:
            if isinstance(values[key], (*_PLAIN, float)) and not key.startswith("__"):
                self.visit(f"{name}.{key}", values[key], 0)


def _is_own_object(value: Any) -> bool:
    """Whether it is an object of a class of the user's own."""
    return not isinstance(value, types.ModuleType) and not is_library(type(value).__module__)


def _attributes(value: Any) -> list[tuple[str, Any]]:
    """The attributes of an object, those in slots included."""
    found = list(getattr(value, "__dict__", {}).items())
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        names = (slots,) if isinstance(slots, str) else slots
        found += [
            (name, getattr(value, name))
            for name in names
            if name not in ("__dict__", "__weakref__") and hasattr(value, name)
        ]
    return found


def _is_empty(value: Any) -> bool:
    """Whether it is one of a module's many empty tables of hooks."""
    return type(value) is collections.OrderedDict and not value


def _generator_state(value: Any) -> Hashable | None:
    """The state of a random generator; None for other objects."""
    if isinstance(value, torch.Generator):
        return _array_digest(value.get_state())
    if isinstance(value, random.SystemRandom):
        return None  # has no state
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state(legacy=False))
    return None


def _position(value: Iterator[Any]) -> Hashable:
    """How far an iterator is, as far as that can be seen without moving it."""
    if isinstance(value, itertools.count):
        return repr(value)
    return operator.length_hint(value, -1)


def _array_digest(value: Tensor | np.ndarray[Any, Any] | np.generic) -> Hashable:
    """The bits of a tensor or an array; of those without plain memory, dtype and shape only."""
    about = (str(value.dtype), tuple(value.shape))
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.is_meta or value.is_quantized or value.is_nested:
            return about
        value = value.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    if value.dtype.hasobject:
        return about
    return (*about, hashlib.sha256(value.tobytes()).hexdigest())


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return _UNSHOWN


@functools.cache
def _names(code: types.CodeType) -> frozenset[str]:
    """The names of globals and attributes in a function's code, functions within it included."""
    inner: Sequence[types.CodeType] = [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return frozenset(code.co_names).union(*map(_names, inner))
