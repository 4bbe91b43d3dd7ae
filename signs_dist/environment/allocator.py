"""How the C library's malloc treats memory that a program has freed: kept for the next step, or given back.

A training step allocates the same blocks of some megabytes again and again. By default glibc maps each of them afresh
and unmaps it when it is freed, so that the system clears every page again in every step. docs/performance.md has
figures.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# From glibc's malloc.h. Values are of type int.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_KEEPING = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 * 2**20))
"""No block is mapped by itself; less than 2 GiB at the end of the heap is kept; the heap grows by 64 MiB at once."""

_CHOSEN_BY_A_PERSON = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")
"""Variables by which a person sets what this module sets, see mallopt(3). `GLIBC_TUNABLES` is another way."""


def keep_freed_memory(setting: str, device_type: str) -> bool:
    """Let glibc's malloc keep freed memory for this process's next blocks. No bit of a result depends on it.

    Args:
        setting: `train.allocator`: `auto` or `system`.
        device_type: of the network: `cpu` or `cuda`.

    Returns:
        Whether it does so now. Memory that Python, NumPy or torch has freed then stays with the process, at most as
        much as it once had in use.
    """
    if not should_keep(setting, device_type, os.environ, library=malloc_library(), libc=platform.libc_ver()[0]):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(ctypes.c_int(option), ctypes.c_int(value)) == 1 for option, value in _KEEPING)


def should_keep(setting: str, device_type: str, environment: Mapping[str, str], *, library: str, libc: str) -> bool:
    """Whether malloc is to keep freed memory.

    Args:
        setting: `auto`, or `system` for malloc as it is.
        device_type: of the network. Its blocks are the host's on `cpu` only.
        environment: such as `os.environ`: what a person has set holds.
        library: the file that `malloc` comes from, see `malloc_library`. Another than the C library, such as tcmalloc
            or jemalloc through LD_PRELOAD, is left as it is.
        libc: the name of the C library, as `platform.libc_ver` has it.
    """
    if setting != "auto" or device_type != "cpu" or libc != "glibc":
        return False
    if any(name in environment for name in _CHOSEN_BY_A_PERSON):
        return False
    if "glibc.malloc." in environment.get("GLIBC_TUNABLES", ""):
        return False
    return Path(library).name.startswith(("libc.so", "libc-"))


class _SymbolPlace(ctypes.Structure):
    """`Dl_info` of dladdr(3)."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


class _LoadedObject(ctypes.Structure):
    """The beginning of `dl_phdr_info` of dl_iterate_phdr(3)."""

    _fields_ = (("base", ctypes.c_void_p), ("file", ctypes.c_char_p))


def malloc_library() -> str:
    """The file that this process's `malloc` comes from; "" where that cannot be told."""
    with contextlib.suppress(OSError, AttributeError):
        names = ctypes.CDLL(None)
        file = _file_of_malloc(names, names)
        if ".so" in Path(file).name:
            return file
        # In a program at a fixed address, as Debian's Python, the address is that of the program's jump to malloc. The
        # libraries are in the order in which they are searched: what LD_PRELOAD names comes first.
        for library in _loaded_libraries(names):
            file = _file_of_malloc(names, ctypes.CDLL(library, mode=os.RTLD_NOLOAD | os.RTLD_LAZY))
            if ".so" in Path(file).name:
                return file
    return ""


def _file_of_malloc(names: ctypes.CDLL, library: ctypes.CDLL) -> str:
    """The file of the malloc that a library, or a library that it needs, has; "" without one."""
    place = _SymbolPlace()
    if names.dladdr(ctypes.cast(library.malloc, ctypes.c_void_p), ctypes.byref(place)):
        return os.fsdecode(place.file or b"")
    return ""


def _loaded_libraries(names: ctypes.CDLL) -> list[str]:
    """The files of the loaded libraries, in the order of dl_iterate_phdr(3); the program itself has no name there."""
    found: list[str] = []

    def note(loaded: Any, size: int, data: object) -> int:
        name = os.fsdecode(loaded.contents.file or b"")
        if "/" in name:  # not the kernel's own, linux-vdso.so.1
            found.append(name)
        return 0

    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_LoadedObject), ctypes.c_size_t, ctypes.c_void_p)
    names.dl_iterate_phdr(kind(note), None)
    return found
