"""malloc keeps freed memory: decided as a table, and seen in a process's page faults."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from signs_dist.environment.allocator import malloc_library, should_keep
from tests.processes import REPOSITORY

GLIBC = "/lib/x86_64-linux-gnu/libc.so.6"
NUM_ROUNDS = 20
NUM_BLOCKS = 8
"""glibc alone keeps one block of this size, and gives back several."""
BLOCK_BYTES = 8 * 2**20
CODE = f"""
import resource, sys
from signs_dist.environment.allocator import keep_freed_memory
print(keep_freed_memory(sys.argv[1], "cpu"))
import ctypes
names = ctypes.CDLL(None)
names.malloc.restype = ctypes.c_void_p
for _ in range({NUM_ROUNDS}):
    blocks = [ctypes.c_void_p(names.malloc({BLOCK_BYTES})) for _ in range({NUM_BLOCKS})]
    for block in blocks:
        ctypes.memset(block, 1, {BLOCK_BYTES})
    for block in blocks:
        names.free(block)
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_minflt, used.ru_maxrss)
"""


@pytest.mark.parametrize(
    ("setting", "device_type", "environment", "library", "libc", "keeps"),
    [
        ("auto", "cpu", {}, GLIBC, "glibc", True),
        ("auto", "cpu", {}, "/lib/x86_64-linux-gnu/libc-2.31.so", "glibc", True),
        ("auto", "cpu", {"MALLOC_ARENA_MAX": "2"}, GLIBC, "glibc", True),
        ("auto", "cpu", {"GLIBC_TUNABLES": "glibc.rtld.nns=3"}, GLIBC, "glibc", True),
        ("system", "cpu", {}, GLIBC, "glibc", False),
        ("auto", "cuda", {}, GLIBC, "glibc", False),
        ("auto", "cpu", {}, "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", "glibc", False),
        ("auto", "cpu", {}, "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4", "glibc", False),
        ("auto", "cpu", {}, "", "glibc", False),
        ("auto", "cpu", {}, "/lib/ld-musl-x86_64.so.1", "", False),
        ("auto", "cpu", {"MALLOC_TRIM_THRESHOLD_": "131072"}, GLIBC, "glibc", False),
        ("auto", "cpu", {"MALLOC_MMAP_MAX_": "65536"}, GLIBC, "glibc", False),
        ("auto", "cpu", {"GLIBC_TUNABLES": "a=1:glibc.malloc.hugetlb=1"}, GLIBC, "glibc", False),
    ],
)
def test_when_freed_memory_is_kept(
    setting: str, device_type: str, environment: dict[str, str], library: str, libc: str, keeps: bool
) -> None:
    assert should_keep(setting, device_type, environment, library=library, libc=libc) is keeps


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library is not glibc")
def test_a_process_that_keeps_freed_memory_touches_each_page_once() -> None:
    assert Path(malloc_library()).name.startswith("libc")
    faults, peaks = {}, {}
    for setting in ("auto", "system"):
        command = [sys.executable, "-c", CODE, setting]
        lines = subprocess.run(command, capture_output=True, text=True, check=True, env={}).stdout.split()
        assert lines[0] == str(setting == "auto")
        faults[setting], peaks[setting] = int(lines[1]), int(lines[2])
    pages = NUM_BLOCKS * BLOCK_BYTES // 4096
    assert faults["system"] - faults["auto"] > (NUM_ROUNDS - 5) * pages
    assert peaks["auto"] < peaks["system"] + 100 * 1024  # KiB: the heap grows by 64 MiB, of which pages are used once


ALLOCATOR = """
extern void *__libc_malloc(unsigned long);
void *malloc(unsigned long size) { return __libc_malloc(size); }
"""
PYTHONS = [
    sys.executable,
    pytest.param(
        "/usr/bin/python3",
        marks=pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="the system has no Python of its own"),
    ),
]
"""Debian's own is a program at a fixed address, which has a malloc of its own by name only."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library is not glibc")
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("is_preloaded", [False, True])
def test_malloc_is_that_of_the_c_library_or_of_what_is_preloaded(
    tmp_path: Path, python: str, is_preloaded: bool
) -> None:
    variables = {"PYTHONPATH": str(REPOSITORY)}
    if is_preloaded:
        if shutil.which("gcc") is None:
            pytest.skip("there is no gcc")
        (tmp_path / "own.c").write_text(ALLOCATOR)
        library = tmp_path / "libown_malloc.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "own.c"], check=True)
        variables["LD_PRELOAD"] = str(library)
    code = "from signs_dist.environment.allocator import malloc_library; print(malloc_library())"
    printed = subprocess.run([python, "-c", code], env=variables, capture_output=True, text=True, check=True).stdout
    assert Path(printed.strip()).name.startswith("libown_malloc.so" if is_preloaded else "libc")
