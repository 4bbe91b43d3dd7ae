"""Exact mode: all that it sets and requires, in the order of a run.

1. `refuse_data_parallel`           one device a process
2. `choose_cublas_workspace`        before CUDA starts
3. `choose_exact_kernels`           and `EXACT_NUM_THREADS`; `exact_arithmetic` sets both, and restores them
4. `require_deterministic_kernels`  no layer without a deterministic kernel
5. `require_same_bits`              the first micro-batch, computed twice, has the same bits
6. `require_same_start`             all processes start with the same weights
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.errors import UserError
from signs_dist.models.determinism import find_unstable_layer, unstable_on_cuda

EXACT_NUM_THREADS = 1
"""Threads of one operation on the CPU in exact mode, by default. Another number of threads sums in another order."""
CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_INDUCTOR_DETERMINISTIC = "TORCHINDUCTOR_DETERMINISTIC"
_INDUCTOR_CONFIG = "torch._inductor.config"


def refuse_data_parallel(num_devices: int) -> None:
    """Refuse several devices of one process: nn.DataParallel sums gradients in an order of its own.

    Raises:
        UserError: `num_devices` is above 1.
    """
    if num_devices > 1:
        raise UserError(
            "exact=true does not work with --dp: nn.DataParallel sums gradients in an order of its own. Omit --dp, or "
            f"type torchrun --nproc_per_node={num_devices} -m signs_dist.train"
        )


def require_deterministic_kernels(model: nn.Module, device_type: str) -> None:
    """Refuse layers without a deterministic kernel on the device.

    Raises:
        UserError: there is such a layer; the message names it.
    """
    unstable = unstable_on_cuda(model) if device_type == "cuda" else []
    if unstable:
        raise UserError(
            f"exact=true does not work with {', '.join(unstable)}: CUDA has no deterministic kernel for it. "
            f"Use another layer, or exact=false."
        )


def require_same_bits(model: nn.Module, compute_loss: Callable[[], Tensor]) -> None:
    """Compute a loss and its gradients twice, and compare the bits.

    Args:
        model: the plain model, in training mode.
        compute_loss: computes the loss of the same images with the same seed at each call.

    Raises:
        UserError: the bits differ. The message names the layer.
    """
    unstable = find_unstable_layer(model, compute_loss)
    if unstable:
        raise UserError(
            f"exact=true does not work with this model: {unstable} gives other bits each time for the same images and "
            f"seed. Let it draw from torch's generator only, or use exact=false."
        )


def require_same_start(model: nn.Module, gather: Callable[[Any], list[Any]]) -> None:
    """Refuse initial weights that differ between processes. In fast mode DistributedDataParallel copies rank 0's.

    Args:
        model: the plain model.
        gather: from the value of this process to the values of all processes, by rank.

    Raises:
        UserError: on all processes; the message names the ranks.
    """
    others = differing_ranks(gather(weights_sha256(model)))
    if others:
        raise UserError(
            f"exact=true does not work with this model: the initial weights of rank {', '.join(map(str, others))} "
            f"differ from those of rank 0. Draw initial weights from torch's generator only."
        )


def differing_ranks(values: Sequence[Any]) -> list[int]:
    """The ranks whose value differs from that of rank 0."""
    return [rank for rank, value in enumerate(values) if value != values[0]]


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
        stack.callback(_environment_restorer())
        stack.callback(_kernels_restorer())
        yield


@contextlib.contextmanager
def threads_kept(num_threads: int) -> Iterator[None]:
    """Within the block an operation on the CPU uses `num_threads` threads; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_cublas_workspace() -> None:
    """Let cuBLAS use one workspace, and so one order of summing. A value that the user has set is kept.

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


def _environment_restorer() -> Callable[[], None]:
    """A function that sets the environment variables of exact mode to the values that they have now."""
    before = {name: os.environ.get(name) for name in (CUBLAS_WORKSPACE, _INDUCTOR_DETERMINISTIC)}

    def restore() -> None:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    return restore


def _kernels_restorer() -> Callable[[], None]:
    """A function that sets PyTorch's choice of kernels to what it is now."""
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
