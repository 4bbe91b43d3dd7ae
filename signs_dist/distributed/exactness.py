"""Exact mode: all that it sets and requires, in the order of a run.

1. `refuse_data_parallel`           one device a process
2. `choose_cublas_workspace`        before CUDA starts
3. `choose_exact_kernels`           and `EXACT_NUM_THREADS`; `exact_arithmetic` sets both, and restores them
4. `require_deterministic_kernels`  no layer without a deterministic kernel
5. `require_repeatable`             passes over the first micro-batch repeat, and leave nothing behind but buffers
6. `require_same_on_ranks`          all processes start with the same weights, and compute the same from them
7. `require_same_in_new_process`    a process that only builds the network computes the same
8. `differs_from_before`            a resumed run computes what its earlier attempts did, or
   `refuse_other_arithmetic`        is refused with the names of what has changed
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from signs_dist.distributed.arithmetic import Fingerprint, RankArithmetic, find_odd_ranks, refusal_of_ranks
from signs_dist.errors import OtherArithmeticError, UserError
from signs_dist.models.determinism import unstable_on_cuda
from signs_dist.models.trial import Trial, TrialDigest, find_fault

EXACT_NUM_THREADS = 1
"""Threads of one operation on the CPU in exact mode, by default. Another number of threads sums in another order."""
CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_INDUCTOR_DETERMINISTIC = "TORCHINDUCTOR_DETERMINISTIC"
_INDUCTOR_CONFIG = "torch._inductor.config"
_READ = "such as hash(), the process id, the time, a global generator, a file, an environment variable, a torch setting"
"""For the messages of this file: what a network may read that is not the same everywhere."""


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


def require_repeatable(trial: Trial, *, thorough: bool = True) -> TrialDigest:
    """Refuse a network whose passes depend on more than images, weights, buffers and torch's generator.

    Args:
        trial: the network and the first micro-batch of the run.
        thorough: False for networks that are known to keep nothing.

    Returns:
        What the network computes, for the checks below.

    Raises:
        UserError: the message names what the passes change, or the layer whose bits differ.
    """
    digest, fault = find_fault(trial, thorough=thorough)
    if fault:
        raise UserError(f"exact=true does not work with this model: {fault}, or use exact=false.")
    return digest


def require_same_on_ranks(
    digest: TrialDigest,
    own: RankArithmetic,
    gather: Callable[[Any], list[Any]],
    before: Fingerprint | None = None,
) -> None:
    """Refuse processes that start with other weights, or compute other bits from them for the same images.

    In fast mode DistributedDataParallel copies the weights of rank 0.

    Args:
        digest: of this process, whose trial had the same images on all processes.
        own: the arithmetic of this process.
        gather: from the value of this process to the values of all processes, by rank.
        before: the arithmetic of an earlier attempt; None without one.

    Raises:
        OtherArithmeticError: on all processes: their machines or their software differ. The message names rank, host
            and device of those that compute something else, and what differs there.
        UserError: on all processes: the network reads something that differs. The message names the ranks.
    """
    gathered = gather((*dataclasses.astuple(digest), own.as_plain()))
    digests = [tuple(values) for *values, _ in gathered]
    ranks = [RankArithmetic.from_plain(plain) for *_, plain in gathered]
    has_digests = all(each.fingerprint.digest for each in ranks)  # the fixed micro-batch may fail where memory is short
    keys = [
        (*values, each.fingerprint.digest if has_digests else "") for values, each in zip(digests, ranks, strict=True)
    ]
    odd = find_odd_ranks(keys, ranks, before)
    are_named = any(each.fingerprint.names != ranks[0].fingerprint.names for each in ranks)
    if odd and (are_named or not differing_ranks(digests)):
        raise refusal_of_ranks(ranks, odd)
    others = differing_ranks([weights for weights, *_ in digests])
    if others:
        raise UserError(
            f"exact=true does not work with this model: the initial weights of rank {_listed(others)} "
            f"differ from those of rank 0. Draw initial weights from torch's generator only."
        )
    if others := differing_ranks(digests):
        raise UserError(
            f"exact=true does not work with this model on these machines: rank {_listed(others)} computes other bits "
            f"than rank 0 from the same images, weights and seed. Either the model reads something that differs "
            f"between processes ({_READ}), or the processes have other processors or versions of the software. Let it "
            f"read its input, weights and buffers only; start all processes on one kind of machine; or use exact=false."
        )


def require_same_in_new_process(digest: TrialDigest, other: TrialDigest) -> None:
    """Refuse a network that another process on this machine builds or computes otherwise.

    Args:
        digest: of this process.
        other: of the other process, from the same config, images and device.

    Raises:
        UserError: they differ. The message says in what.
    """
    if digest == other:
        return
    what = "has other initial weights" if digest.weights != other.weights else "computes other bits"
    raise UserError(
        f"exact=true does not work with this model: in a second process, from the same config and images, it {what}. "
        f"It reads something that differs between processes ({_READ}). Let it read its arguments, its input and "
        f"torch's generator only, or use exact=false."
    )


def differs_from_before(digest: TrialDigest, before: Mapping[str, str]) -> str:
    """What the network does otherwise than in an earlier attempt; "" if its bits are equal.

    Args:
        digest: of this process.
        before: `dataclasses.asdict` of the digest of an earlier attempt, from its checkpoint.
    """
    now = dataclasses.asdict(digest)
    if all(now[name] == value for name, value in before.items() if name in now):
        return ""
    return "starts from other initial weights" if before.get("weights") != digest.weights else "computes other bits"


def refuse_other_arithmetic(what: str, changed: Sequence[str], accept: str) -> None:
    """Refuse to resume a run whose network computes other bits now.

    Args:
        what: the network does otherwise.
        changed: names of what has changed in the arithmetic, from `Fingerprint.differences`.
        accept: what to type to resume nevertheless.

    Raises:
        OtherArithmeticError: always.
    """
    if changed:
        raise OtherArithmeticError(
            f"exact=true: from the same config and images, the model {what} than when this run was saved. Changed "
            f"since: {'; '.join(changed)}. Resume on the kind of machine, and with the software, that the run began "
            f"on; or choose another --run-dir; or, to go on with other bits, type {accept}"
        )
    raise OtherArithmeticError(
        f"exact=true: from the same config and images, the model {what} than when this run was saved. Either the "
        f"machine has another processor or other versions of the software, or the code or the weights file of the "
        f"model has changed, or it reads something that differs between processes ({_READ}). Resume with the same code "
        f"on the kind of machine that the run began on; or choose another --run-dir; or, to go on with other bits, "
        f"type {accept}"
    )


def _listed(ranks: Sequence[int]) -> str:
    return ", ".join(map(str, ranks))


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
