"""What a processor computes with, as names: model, instructions, caches, and the caps that a person has set.

The names explain why two machines compute other bits. Whether they do, only a computation tells.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
INSTRUCTIONS = (
    *("avx", "avx2", "fma", "f16c", "avx_vnni", "avx_vnni_int8", "avx_ne_convert"),
    *("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "avx10_1", "avx10_2"),
    *("asimd", "asimdhp", "asimddp", "fphp", "bf16", "i8mm", "sve", "sve2", "svebf16", "sme"),
)
"""Flags of /proc/cpuinfo by which PyTorch, oneDNN, MKL and OpenBLAS choose a kernel."""
CAPS = (
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_CPU_ISA_HINTS"),
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "OPENBLAS_CORETYPE"),
    *("ONEDNN_DEFAULT_FPMATH_MODE", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
    *("CUBLAS_WORKSPACE_CONFIG", "NCCL_ALGO", "NCCL_PROTO"),
)
"""Variables that make a library choose other kernels than the machine's best."""
_ONEDNN_LEVELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("SSE41", ()),
    ("AVX", ("avx",)),
    ("AVX2", ("avx2", "fma")),
    ("AVX2_VNNI", ("avx_vnni",)),
    ("AVX2_VNNI_2", ("avx_vnni_int8", "avx_ne_convert")),
    ("AVX512_CORE", ("avx512f", "avx512bw", "avx512dq", "avx512vl")),
    ("AVX512_CORE_VNNI", ("avx512_vnni",)),
    ("AVX512_CORE_BF16", ("avx512_bf16",)),
    ("AVX512_CORE_FP16", ("avx512_fp16",)),
    ("AVX512_CORE_AMX", ("amx_tile", "amx_int8", "amx_bf16")),
    ("AVX512_CORE_AMX_FP16", ("amx_fp16",)),
)
"""The levels of oneDNN and the flags that each needs beside those of the levels below it. The two levels with AVX2_VNNI
are a branch of their own: AVX512_CORE does not need them. Source: oneDNN, "CPU Dispatcher Control"."""
_BRANCH = ("AVX2_VNNI", "AVX2_VNNI_2")


def read_processor(environment: Mapping[str, str]) -> dict[str, str]:
    """What is known of this machine's processor, by names for people. What the system does not tell is omitted.

    Args:
        environment: of this process, for the caps.
    """
    text = _read(CPUINFO)
    flags = find_flags(text)
    known = {
        "CPU": find_model(text),
        "CPU instructions": " ".join(name for name in INSTRUCTIONS if name in flags),
        "CPU caches": describe_caches(CACHES),
        "oneDNN instructions": find_onednn_level(flags, environment),
        **{name: environment.get(name, "") for name in CAPS},
    }
    return {name: value for name, value in known.items() if value}


def find_model(cpuinfo: str) -> str:
    """The model of the first processor in the text of /proc/cpuinfo, with its family and stepping; "" without one."""
    fields = dict(re.findall(r"^([^\t:]+?)\s*: *(.*)$", cpuinfo.partition("\n\n")[0], re.MULTILINE))
    name = fields.get("model name") or fields.get("CPU part") or ""
    numbers = [fields[each] for each in ("cpu family", "model", "stepping") if each in fields]
    return f"{name} ({'.'.join(numbers)})" if name and numbers else name


def find_flags(cpuinfo: str) -> frozenset[str]:
    """The flags of the first processor in the text of /proc/cpuinfo; on ARM its features."""
    found = re.search(r"^(?:flags|Features)\s*: *(.*)$", cpuinfo, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def find_onednn_level(flags: Collection[str], environment: Mapping[str, str]) -> str:
    """The highest level of instructions that oneDNN may use on x86; "" on other processors.

    Args:
        flags: of the processor.
        environment: oneDNN's cap is in it, if a person has set one. A cap that oneDNN does not know counts as none.
    """
    if "sse4_1" not in flags:
        return ""
    cap = (environment.get("ONEDNN_MAX_CPU_ISA") or environment.get("DNNL_MAX_CPU_ISA") or "").upper()
    names = [name for name, _ in _ONEDNN_LEVELS]
    last = names.index(cap) if cap in names else len(names) - 1
    found = names[0]
    for name, needs in _ONEDNN_LEVELS[1 : last + 1]:
        if all(flag in flags for flag in needs):
            found = name
        elif name not in _BRANCH:
            break
    return found


def describe_caches(folder: Path) -> str:
    """The caches of a core, such as `L1d 48K, L2 1024K, L3 32768K`: oneDNN and MKL block matrices by their sizes."""
    found = []
    for index in sorted(folder.glob("index*")):
        level, kind, size = (_read(index / name).strip() for name in ("level", "type", "size"))
        if level and size and kind != "Instruction":
            found.append(f"L{level}{'d' if kind == 'Data' else ''} {size}")
    return ", ".join(found)


def read_own_processor() -> dict[str, str]:
    """`read_processor` for the environment of this process."""
    return read_processor(os.environ)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
