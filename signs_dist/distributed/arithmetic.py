"""The arithmetic of a process: the names of what computes there, and a digest of what comes out.

The digest decides whether two processes compute the same bits. The names say why they do not.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from signs_dist.environment.processor import read_own_processor
from signs_dist.errors import OtherArithmeticError

VERSION = 1
"""Of `Fingerprint.as_dict`. Digests of different versions are not compared."""
MOST_NAMED = 4
"""Processes in a message."""


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """The arithmetic of a process.

    Attributes:
        names: what computes, for people: versions, instructions, devices, threads, deterministic settings.
        subject: SHA-256 (hex) of what the digest was computed for: network, loss, seed, precision, memory order. ""
            without a digest.
        digest: SHA-256 (hex) of what comes out: losses and all gradients of the fixed micro-batch. "" in fast mode,
            and where the network does not take this micro-batch.
    """

    names: Mapping[str, str]
    subject: str = ""
    digest: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON and checkpoints."""
        return {"version": VERSION, "names": dict(self.names), "subject": self.subject, "digest": self.digest}

    @classmethod
    def from_dict(cls, values: Any) -> Fingerprint | None:
        """From `as_dict`; None for anything else, such as what a later version has written."""
        if not isinstance(values, Mapping) or values.get("version") != VERSION:
            return None
        names, subject, digest = values.get("names"), values.get("subject"), values.get("digest")
        if not isinstance(names, Mapping) or not isinstance(subject, str) or not isinstance(digest, str):
            return None
        if not all(isinstance(text, str) for pair in names.items() for text in pair):
            return None
        return cls(dict(names), subject, digest)

    def is_comparable(self, other: Fingerprint) -> bool:
        """Whether both digests are of the same computation, so that they must be equal on the same arithmetic."""
        return bool(self.digest) and bool(other.digest) and self.subject == other.subject

    def is_same(self, other: Fingerprint) -> bool | None:
        """Whether both compute the same bits, by the digest; None if it cannot tell."""
        return self.digest == other.digest if self.is_comparable(other) else None

    def differences(self, other: Fingerprint) -> list[str]:
        """What differs in `other`, by name: `CPU capability AVX512 → AVX2`."""
        names = [*self.names, *(name for name in other.names if name not in self.names)]
        pairs = ((name, self.names.get(name, "none"), other.names.get(name, "none")) for name in names)
        return [_show(name, old, new) for name, old, new in pairs if old != new]


def _show(name: str, old: str, new: str) -> str:
    """One difference; of lists of words, those that only one of the two has."""
    before, after = old.split(), new.split()
    if name.endswith("instructions") and len(before) > 1 and len(after) > 1:
        lost, won = [each for each in before if each not in after], [each for each in after if each not in before]
        parts = [f"without {' '.join(lost)}"] if lost else []
        return f"{name} {', '.join([*parts, *([f'with {chr(32).join(won)}'] if won else [])])}"
    return f"{name} {old} → {new}"


@dataclasses.dataclass(frozen=True)
class RankArithmetic:
    """The arithmetic of a process, and where it runs.

    Attributes:
        fingerprint: its arithmetic.
        host: the name of its machine, as SLURM knows it.
        device: what it computes on, for people.
    """

    fingerprint: Fingerprint
    host: str
    device: str

    def as_plain(self) -> dict[str, Any]:
        """Plain values, to be gathered."""
        return {"fingerprint": self.fingerprint.as_dict(), "host": self.host, "device": self.device}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> RankArithmetic:
        """From `as_plain`, of a process of the same run."""
        fingerprint = Fingerprint.from_dict(values["fingerprint"])
        assert fingerprint is not None
        return cls(fingerprint, values["host"], values["device"])


def name_arithmetic(device: torch.device, num_threads: int) -> dict[str, str]:
    """The names of what computes in this process. It starts nothing and takes about a millisecond.

    Args:
        device: of the network.
        num_threads: of one operation on the CPU.
    """
    config = torch.__config__.show()
    processor = read_own_processor()
    names = {
        "torch": str(torch.__version__),  # a class of its own, which no checkpoint may hold
        "oneDNN": _find(r"MKL-DNN v(\S+)", config),
        "MKL": _find(r"Math Kernel Library Version (\S+)", config),
        "BLAS": _find(r"BLAS_INFO=(\w+)", config),
        "CPU capability": torch.backends.cpu.get_cpu_capability(),
        **processor,
        "threads": str(num_threads),
        "deterministic kernels": {0: "no", 1: "warn", 2: "yes"}[torch.get_deterministic_debug_mode()],
        "float32 products": torch.get_float32_matmul_precision(),
    }
    if device.type == "cuda":
        names |= _name_gpu(device)
    return {name: value for name, value in names.items() if value}


def _name_gpu(device: torch.device) -> dict[str, str]:
    properties = torch.cuda.get_device_properties(device)
    cudnn = torch.backends.cudnn
    return {
        "GPU": properties.name,
        "compute capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": str(properties.multi_processor_count),
        "CUDA": str(torch.version.cuda or torch.version.hip or ""),
        "cuDNN": str(cudnn.version() or ""),  # type: ignore[no-untyped-call]
        "cuDNN deterministic": f"{cudnn.deterministic}, benchmark {cudnn.benchmark}",
        "NCCL": nccl_version(),
        "TF32": f"matmul {torch.backends.cuda.matmul.allow_tf32}, cuDNN {cudnn.allow_tf32}",
    }


def nccl_version() -> str:
    """The version of NCCL; "" without it."""
    nccl = getattr(torch.cuda, "nccl", None)
    try:
        return ".".join(map(str, nccl.version())) if nccl is not None else ""
    except (RuntimeError, AttributeError):  # a build without NCCL
        return ""


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""


def find_odd_ranks(
    keys: Sequence[Any], ranks: Sequence[RankArithmetic] = (), before: Fingerprint | None = None
) -> list[int]:
    """The ranks that compute something else: than the run did before, or than most ranks, or than rank 0 at a tie.

    Args:
        keys: what each rank computes.
        ranks: their arithmetic.
        before: of an earlier attempt; None without one.
    """
    if len(set(keys)) <= 1:
        return []
    if before is not None and any(each.fingerprint.is_same(before) for each in ranks):
        return [number for number, each in enumerate(ranks) if each.fingerprint.is_same(before) is False]
    counts = collections.Counter(keys)
    most = max(counts.values())
    right = next(key for key in keys if counts[key] == most)
    return [number for number, key in enumerate(keys) if key != right]


def refusal_of_ranks(ranks: Sequence[RankArithmetic], odd: Sequence[int]) -> OtherArithmeticError:
    """That some processes compute other bits than the others: which, on which host and device, and what differs."""
    right = next(each for number, each in enumerate(ranks) if number not in odd)
    parts = []
    for number in odd[:MOST_NAMED]:
        rank = ranks[number]
        what = "; ".join(right.fingerprint.differences(rank.fingerprint)) or "no version or instruction differs"
        parts.append(f"rank {number} on {rank.host} ({rank.device}): {what}")
    if len(odd) > MOST_NAMED:
        parts.append(f"and {len(odd) - MOST_NAMED} more")
    return OtherArithmeticError(
        f"exact=true: {len(odd)} of {len(ranks)} processes compute other bits than the others from the same images, "
        f"weights and seed, compared with {right.host}: {'. '.join(parts)}. Start all processes on one kind of "
        f"machine, with the same software (on SLURM with --constraint); or use exact=false.",
        nodes=tuple(dict.fromkeys(ranks[number].host for number in odd)),
    )
