"""Versions of Python, torch and the libraries beside it: known bad pairs, and the same on every rank."""

from __future__ import annotations

import collections
import importlib.metadata
import platform
import re
from collections.abc import Mapping, Sequence

from signs_dist import __version__
from signs_dist.health.finding import Finding, Place, listed

CHECK = "versions"
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "pydantic", "timm")
"""Distributions whose version is compared. One that is not installed is omitted."""
NEEDED_EQUAL = ("signs_dist", "torch", "CUDA", "NCCL", "numpy", "torchvision", "pillow")
"""What must be the same on all ranks. Others may differ: they decide no result."""
_DRIVERS = ((13, (580, 65)), (12, (525, 60)), (11, (450, 80)))
"""CUDA's major version → the oldest Linux driver that runs it (CUDA Toolkit release notes, "CUDA Driver", minor version
compatibility)."""
_FIRST_TORCH: dict[tuple[int, ...], tuple[int, int]] = {(3, 12): (2, 2), (3, 13): (2, 5), (3, 14): (2, 9)}
"""Python → the first torch with wheels for it (the release notes of PyTorch)."""
_TORCH_OF_TORCHVISION = 15
"""torchvision 0.N belongs to torch 2.(N - 15) (the table in torchvision's README)."""


def read_versions() -> dict[str, str]:
    """Versions by name; what is not there is omitted. Imports torch."""
    import torch

    from signs_dist.distributed.arithmetic import nccl_version

    found = {"signs_dist": __version__, "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["torch"] = str(torch.__version__)
    found["CUDA"] = str(torch.version.cuda or "")
    if torch.cuda.is_available():
        found["NCCL"] = nccl_version()
    found["system"] = " ".join([platform.system(), platform.release()])
    return {name: version for name, version in found.items() if version}


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: (2, 9, 1) of `2.9.1+cu128`."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def find_bad_pairs(versions: Mapping[str, str], driver: str = "") -> list[tuple[str, str]]:
    """Versions that are known not to work together, each with what to type.

    Args:
        versions: from `read_versions`.
        driver: of NVIDIA; "" without one.
    """
    torch, numpy = numbers(versions.get("torch", "")), numbers(versions.get("numpy", ""))
    vision, python = numbers(versions.get("torchvision", "")), numbers(versions.get("Python", ""))
    cuda = numbers(versions.get("CUDA", ""))
    found = []
    if torch and numpy and torch < (2, 3) and numpy >= (2,):
        found.append((f"torch {versions['torch']} was built for numpy 1", 'pip install "numpy<2"'))
    if torch[:1] == (2,) and len(vision) > 1 and vision[0] == 0 and vision[1] - _TORCH_OF_TORCHVISION != torch[1]:
        wanted = f"0.{torch[1] + _TORCH_OF_TORCHVISION}"
        found.append(
            (
                f"torchvision {versions['torchvision']} belongs to torch 2.{vision[1] - _TORCH_OF_TORCHVISION}, not to "
                f"{versions['torch']}",
                f'pip install "torchvision=={wanted}.*"',
            )
        )
    least = _FIRST_TORCH.get(python[:2])
    if least and torch and torch[:2] < least:
        first = ".".join(map(str, least))
        found.append((f"Python {versions['Python']} needs torch {first} or later", f'pip install "torch>={first}"'))
    own_driver = numbers(driver)
    oldest = next((driver for major, driver in _DRIVERS if cuda and major == cuda[0]), None)
    if oldest and own_driver and own_driver < oldest:
        needed = ".".join(map(str, oldest))
        found.append(
            (
                f"torch is built for CUDA {versions['CUDA']}, and the driver {driver} is older than {needed}",
                f"a driver from {needed} on (an administrator installs it), or a torch built for an older CUDA: "
                "https://pytorch.org/get-started/previous-versions",
            )
        )
    return found


def judge(versions: Mapping[int, Mapping[str, str]], places: Mapping[int, Place], driver: str = "") -> list[Finding]:
    """One finding about pairs that do not work together, and one about ranks that have other versions.

    Args:
        versions: of each rank.
        places: of each rank.
        driver: of NVIDIA on rank 0's machine; "" without one.
    """
    found: list[Finding] = []
    bad: dict[tuple[str, str], list[Place]] = {}
    for rank, of_rank in versions.items():
        for pair in find_bad_pairs(of_rank, driver):
            bad.setdefault(pair, []).append(places[rank])
    for (what, mend), where in bad.items():
        on = "" if len(where) == len(versions) else f" ({listed(where)})"
        found.append(Finding(CHECK, "fail", f"{what}{on}", "versions that belong together", mend))
    found += _judge_equal(versions, places)
    return found or [Finding(CHECK, "ok", _describe(versions), "versions that belong together, the same on every rank")]


def _judge_equal(versions: Mapping[int, Mapping[str, str]], places: Mapping[int, Place]) -> list[Finding]:
    found = []
    for name in (*NEEDED_EQUAL, "Python"):
        values = {rank: of_rank.get(name, "none") for rank, of_rank in versions.items()}
        usual = _most_frequent(list(values.values()))
        odd = [rank for rank, value in values.items() if value != usual]
        if not odd:
            continue
        told = listed(f"{places[rank]} has {name} {values[rank]}" for rank in odd)
        found.append(
            Finding(
                CHECK,
                "fail" if name in NEEDED_EQUAL else "warn",
                f"{told}; the others have {usual}",
                "the same versions on every rank",
                "start all ranks with one environment that all nodes see, such as a virtual environment on a shared "
                "file system, or install the same versions on each node",
            )
        )
    return found


def _most_frequent(values: Sequence[str]) -> str:
    """The most frequent value, and of equally frequent ones the first."""
    return collections.Counter(values).most_common(1)[0][0]


def _describe(versions: Mapping[int, Mapping[str, str]]) -> str:
    first = next(iter(versions.values()))
    shown = ", ".join(f"{name} {version}" for name, version in first.items() if name not in ("system", "pydantic"))
    return shown + (f", on all {len(versions)} ranks" if len(versions) > 1 else "")
