"""Kinds of nodes by what `scontrol --oneliner show nodes` prints, as SLURM 22.05 prints it."""

from __future__ import annotations

from typing import Any

import pytest

from launch.cluster import ClusterConfig
from launch.schedulers.slurm_kinds import describe_kinds
from launch.schedulers.slurm_questions import parse_lines


def node(name: str, features: str, *, gres: str = "(null)", shape: str = "2x32x2", partitions: str = "main") -> str:
    sockets, cores, threads = shape.split("x")
    return (
        f"NodeName={name} Arch=x86_64 CoresPerSocket={cores} CPUAlloc=0 CPUEfctv=128 CPUTot=128 CPULoad=3.58 "
        f"AvailableFeatures={features} ActiveFeatures={features} Gres={gres} NodeAddr=127.0.0.1 "
        f"NodeHostName=localhost Port=11249 Version=22.05.8 OS=Linux 6.1 #1 SMP PREEMPT_DYNAMIC @0  RealMemory=4000 "
        f"AllocMem=0 FreeMem=11793 Sockets={sockets} Boards=1 State=IDLE ThreadsPerCore={threads} TmpDisk=0 Weight=1 "
        f"Owner=N/A MCS_label=N/A Partitions={partitions} BootTime=2026-11-27T17:41:26"
    )


ROME, MILAN = node("n1", "amd,rome,ib"), node("n2", "amd,milan,ib")
V100, A100 = node("g1", "(null)", gres="gpu:v100:4(S:0-1)"), node("g2", "(null)", gres="gpu:a100:4")
OWN = "partition main has 2 kinds of nodes, which may compute other bits"


@pytest.mark.parametrize(
    ("nodes", "asked", "told"),
    [
        ([ROME, node("n3", "amd,rome,ib")], {}, []),
        (
            [ROME, MILAN, node("n3", "amd,milan,ib")],
            {},
            [f"{OWN}: 2 with features amd,ib,milan, x86_64", "(type --constraint milan)", "(type --constraint rome)"],
        ),
        ([ROME, MILAN], {"constraint": "rome"}, []),
        ([ROME, MILAN], {"extra": {"nodelist": "n1"}}, []),
        ([ROME, node("n2", "amd,milan,ib", partitions="other")], {}, []),  # of another partition
        # Each single feature is of another kind too; together they name one.
        (
            [node("n1", "a,x"), node("n2", "a,y"), node("n3", "b,x")],
            {},
            ["has 3 kinds", "(type --constraint 'a&x')", "(type --constraint y)", "(type --constraint b)"],
        ),
        ([V100, A100], {"gpus_per_node": 1}, [f"{OWN}: 1 with no features, GPU v100", "(type --gpu-type a100)"]),
        ([V100, A100], {"gpus_per_node": 1, "gpu_type": "a100"}, []),
        ([V100, A100], {}, []),  # a run on the CPU
        (
            [node("n1", "(null)"), node("n2", "(null)", shape="1x64x2")],
            {},
            ["2x32x2 sockets x cores x threads", "no feature tells them apart: name nodes with --extra nodelist=NODES"],
        ),
    ],
)
def test_kinds_of_nodes(nodes: list[str], asked: dict[str, Any], told: list[str]) -> None:
    lines = describe_kinds(ClusterConfig(**asked), ["main"], parse_lines("\n".join(nodes)))
    text = "\n".join(lines)
    assert bool(text) == bool(told)
    assert [part for part in told if part not in text] == []


def test_of_many_kinds_the_commonest_are_named() -> None:
    nodes = [node(f"n{number}", f"f{number}") for number in range(6)]
    (line,) = describe_kinds(ClusterConfig(), ["main"], parse_lines("\n".join(nodes)))
    assert "has 6 kinds" in line
    assert line.endswith("; and 2 more kinds")


def test_several_partitions_are_taken_together() -> None:
    nodes = parse_lines("\n".join([ROME, node("n2", "amd,milan,ib", partitions="other")]))
    (line,) = describe_kinds(ClusterConfig(partition="main,other"), ["main", "other"], nodes)
    assert line.startswith("exact=true: partitions main,other have 2 kinds of nodes")
