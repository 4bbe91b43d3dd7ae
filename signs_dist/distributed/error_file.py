"""Writes the error file of torchrun, which torchrun shows when a process has failed."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from torch.distributed.elastic.multiprocessing.errors import record
from torch.distributed.elastic.multiprocessing.errors.error_handler import ErrorHandler

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class _CardHandler(ErrorHandler):
    """An error handler of torchrun that calls a function instead of writing a traceback."""

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self._on_error = on_error

    def initialize(self) -> None:
        # So that a crash in C code prints a stack. This fails if standard error is not a file, as in tests.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            faulthandler.enable(all_threads=True)

    def record_exception(self, e: BaseException) -> None:
        self._on_error(e)


def recorded(
    function: Callable[Arguments, Result], on_error: Callable[[BaseException], None]
) -> Callable[Arguments, Result | None]:
    """`function` under torch's `record`; when it raises, `on_error` writes the error file.

    Source: torch.distributed.elastic.multiprocessing.errors.record, which would write a bare traceback.
    """

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result | None:
        return record(function, error_handler=_CardHandler(on_error))(*args, **kwargs)

    return call
