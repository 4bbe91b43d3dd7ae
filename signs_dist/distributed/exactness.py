"""What exact mode sets in PyTorch and in the environment, and how that is put back."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

EXACT_NUM_THREADS = 1
"""Threads of one operation on the CPU in exact mode, by default. Another number of threads sums in another order."""
CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_INDUCTOR_DETERMINISTIC = "TORCHINDUCTOR_DETERMINISTIC"
_INDUCTOR_CONFIG = "torch._inductor.config"


@contextlib.contextmanager
def exact_arithmetic(num_threads: int | None = None) -> Iterator[None]:
    """Within the block, a process computes the same bits each time. Afterwards torch and the environment are as before.

    Enter it before the first matrix product on a GPU: cuBLAS reads its setting only once.

    Args:
        num_threads: threads of one operation on the CPU. None: `EXACT_NUM_THREADS`. Another number gives other bits.
    """
    with arithmetic_kept():
        torch.set_num_threads(EXACT_NUM_THREADS if num_threads is None else num_threads)
        choose_cublas_workspace()
        choose_exact_kernels()
        yield


@contextlib.contextmanager
def arithmetic_kept() -> Iterator[None]:
    """After the block, all that exact mode sets in torch and in the environment is as before."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(threads_kept(torch.get_num_threads()))
        stack.callback(_restore_environment())
        stack.callback(_restore_kernels())
        yield


@contextlib.contextmanager
def threads_kept(num_threads: int) -> Iterator[None]:
    """Within the block one operation on the CPU uses `num_threads` threads; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_cublas_workspace() -> None:
    """Let cuBLAS use one workspace, and so one order of summing, unless the environment says otherwise.

    Source: cuBLAS documentation, "Results Reproducibility". cuBLAS reads the variable when CUDA starts.
    """
    os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")


def choose_exact_kernels() -> None:
    """Let PyTorch use deterministic kernels only; an operation without one raises RuntimeError when it runs.

    This does what torch.use_deterministic_algorithms(True) does, but does not import the compiler for it.
    """
    os.environ[_INDUCTOR_DETERMINISTIC] = "1"  # the compiler reads it when it is imported
    _set_deterministic_compiler(True)
    torch.set_deterministic_debug_mode("error")
    # Deterministic mode would also fill every new tensor with NaN, to show reads of uninitialised memory. That takes
    # seconds, and changes no result here.
    _fill_settings().fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def _set_deterministic_compiler(value: bool) -> None:
    """Set the compiler's own option, if the compiler has been imported and has it."""
    config: Any = sys.modules.get(_INDUCTOR_CONFIG)
    if config is not None and hasattr(config, "deterministic"):
        config.deterministic = value


def _is_compiler_deterministic() -> bool:
    config: Any = sys.modules.get(_INDUCTOR_CONFIG)
    if config is None:
        return os.environ.get(_INDUCTOR_DETERMINISTIC) == "1"  # what the compiler would take from the environment
    return bool(getattr(config, "deterministic", False))


def _restore_environment() -> Callable[[], None]:
    """Returns a function that gives the environment variables of exact mode the values that they have now."""
    before = {name: os.environ.get(name) for name in (CUBLAS_WORKSPACE, _INDUCTOR_DETERMINISTIC)}

    def restore() -> None:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    return restore


def _restore_kernels() -> Callable[[], None]:
    """Returns a function that gives PyTorch's choice of kernels the state that it has now."""
    mode = torch.get_deterministic_debug_mode()
    compiler = _is_compiler_deterministic()
    fill = _fill_settings().fill_uninitialized_memory
    benchmark, deterministic = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic

    def restore() -> None:
        torch.set_deterministic_debug_mode(mode)
        _set_deterministic_compiler(compiler)
        _fill_settings().fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = benchmark, deterministic

    return restore


def _fill_settings() -> Any:
    return torch.utils.deterministic
