"""What a processor computes with, from the system's own texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.environment.processor import (
    describe_caches,
    find_flags,
    find_model,
    find_onednn_level,
    read_processor,
)

EPYC = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\nstepping\t: 1\n"
    "flags\t\t: fpu sse4_1 avx f16c fma avx2 avx512f avx512dq avx512bw avx512vl avx_vnni avx512_bf16 avx512_vnni\n\n"
    "processor\t: 1\nmodel name\t: another\n"
)
GRACE = "processor\t: 0\nFeatures\t: fp asimd fphp sve sve2 i8mm bf16\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n"


def test_model_and_flags_are_those_of_the_first_processor() -> None:
    assert (find_model(EPYC), find_model(GRACE), find_model("")) == ("AMD EPYC (26.2.1)", "0xd4f", "")
    assert {"avx512_bf16", "avx_vnni"} <= find_flags(EPYC)
    assert "sve2" in find_flags(GRACE)
    assert find_flags("") == frozenset()


FLAGS = find_flags(EPYC)
HASWELL = frozenset({"sse4_1", "avx", "avx2", "fma"})


@pytest.mark.parametrize(
    ("flags", "environment", "level"),
    [
        (FLAGS, {}, "AVX512_CORE_BF16"),
        (FLAGS, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "AVX2"),
        (FLAGS, {"ONEDNN_MAX_CPU_ISA": "avx512_core"}, "AVX512_CORE"),
        (FLAGS, {"DNNL_MAX_CPU_ISA": "SSE41"}, "SSE41"),
        (FLAGS, {"ONEDNN_MAX_CPU_ISA": "ALL"}, "AVX512_CORE_BF16"),
        (FLAGS - {"avx_vnni"}, {}, "AVX512_CORE_BF16"),  # a branch of its own: AVX-512 does not need it
        (FLAGS - {"avx512_vnni"}, {}, "AVX512_CORE"),
        (FLAGS | {"avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"}, {}, "AVX512_CORE_AMX"),
        (HASWELL, {}, "AVX2"),
        (HASWELL, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "AVX2"),
        (HASWELL - {"fma"}, {}, "AVX"),
        (find_flags(GRACE), {}, ""),
    ],
)
def test_the_level_of_onednn(flags: frozenset[str], environment: dict[str, str], level: str) -> None:
    assert find_onednn_level(flags, environment) == level


def test_caches_without_those_of_instructions(tmp_path: Path) -> None:
    for number, (level, kind, size) in enumerate(
        [(1, "Data", "48K"), (1, "Instruction", "32K"), (3, "Unified", "32M")]
    ):
        folder = tmp_path / f"index{number}"
        folder.mkdir()
        for name, value in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{value}\n")
    assert describe_caches(tmp_path) == "L1d 48K, L3 32M"
    assert describe_caches(tmp_path / "none") == ""


def test_a_cap_is_a_name_of_its_own() -> None:
    assert read_processor({"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": ""})["ATEN_CPU_CAPABILITY"] == "avx2"
    assert "MKL_CBWR" not in read_processor({"MKL_CBWR": ""})
