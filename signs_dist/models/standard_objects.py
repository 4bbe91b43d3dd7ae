"""What objects of Python's and NumPy's own classes hold, and torch's settings, as values that can be compared."""

from __future__ import annotations

import array
import ctypes
import datetime
import decimal
import fractions
import io
import pathlib
import queue
import uuid
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch

_IMMUTABLE = (
    *(range, slice, fractions.Fraction, decimal.Decimal, pathlib.PurePath, uuid.UUID),
    *(datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo),
)
_C_DATA: tuple[Any, ...] = (ctypes.c_int.__base__, ctypes.Array, ctypes.Structure, ctypes.Union)
"""The base classes of numbers and records of C; the first is that of all numbers."""
_WITH_ATTRIBUTES = frozenset({"types", "_thread", "collections", "queue", "multiprocessing.sharedctypes"})
"""Modules of Python's with bags of attributes: SimpleNamespace, threading.local, UserList, Queue, Value."""


def value_of(value: Any) -> Hashable | None:
    """What an object holds that has no attributes of its own; None for objects of other classes."""
    if isinstance(value, _IMMUTABLE):
        return type(value).__name__, repr(value)
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, array.array):
        return value.typecode, value.tobytes()
    if isinstance(value, _C_DATA):
        return type(value).__name__, bytes(value)
    if isinstance(value, (io.StringIO, io.BytesIO)):
        return value.getvalue(), value.tell()
    if isinstance(value, queue.SimpleQueue):
        return "SimpleQueue", value.qsize()
    if isinstance(value, (np.random.SeedSequence, np.random.BitGenerator)):
        return repr(value.state)
    return None


def has_attributes(value: Any) -> bool:
    """Whether an object of a class of Python's is a bag of attributes that code of the user's fills."""
    return type(value).__module__ in _WITH_ATTRIBUTES and hasattr(value, "__dict__")


def torch_settings() -> Mapping[str, Hashable]:
    """The settings of this process that change what torch computes, by the name of what reads them."""
    return {
        "torch.get_num_threads()": torch.get_num_threads(),
        "torch.get_deterministic_debug_mode()": torch.get_deterministic_debug_mode(),
        "torch.get_default_dtype()": torch.get_default_dtype(),
        "torch.is_grad_enabled()": torch.is_grad_enabled(),
        "torch.backends.cudnn.enabled": torch.backends.cudnn.enabled,
        "torch.backends.cudnn.benchmark": torch.backends.cudnn.benchmark,
        "torch.backends.cudnn.deterministic": torch.backends.cudnn.deterministic,
        "torch.backends.mkldnn.enabled": bool(torch.backends.mkldnn.enabled),
        "the current folder": _current_folder(),
    }


def _current_folder() -> str:
    try:
        return str(pathlib.Path.cwd())
    except OSError:  # it was removed
        return ""
