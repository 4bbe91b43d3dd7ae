"""GPUs that torch does not see, that others use, or that do not reach each other."""

from __future__ import annotations

from typing import Any

import pytest

from signs_dist.environment.context import read_context
from signs_dist.health.devices import find_driver, judge, parse_gpus, read_devices
from signs_dist.health.finding import places_of

ROWS = "0, GPU-1, NVIDIA H100, 550.54.15, 81559, 600, 0\n1, GPU-2, NVIDIA H100, 550.54.15, 81559, 40000, 97\n"
PROGRAMS = "GPU-2, 4711, python, 39000\n"


def reading(**changes: Any) -> dict[str, Any]:
    values = {"device": "cpu", "problem": "", "gpus": [], "count": 0, "built_for": "", "visible": None, "unreached": []}
    return values | {"index": None} | changes


def gpus() -> list[dict[str, Any]]:
    return [vars(gpu) for gpu in parse_gpus(ROWS, PROGRAMS)]


def test_what_nvidia_smi_says() -> None:
    first, second = parse_gpus(ROWS, PROGRAMS)
    assert (first.name, first.driver, first.total_bytes) == ("NVIDIA H100", "550.54.15", 81559 * 2**20)
    assert (first.programs, second.programs) == ((), ("process 4711 (python, 39000 MiB)",))
    assert parse_gpus("0, GPU-1, NVIDIA GB10, 580.1, [N/A], [N/A], 3\n", "")[0].total_bytes == 0
    assert find_driver({0: reading(), 1: reading(gpus=gpus())}) == "550.54.15"


def test_this_machine_without_its_gpus() -> None:
    found = judge({0: read_devices(read_context())}, places_of({0: "here"}), [0])
    assert [each.status for each in found] in (["skip"], ["ok"], ["warn"])


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({}, "skip", "no GPU here"),
        ({"device": "cuda:0 (NVIDIA H100, 80 GiB)", "count": 2}, "ok", "cuda:0 (NVIDIA H100, 80 GiB)"),
        ({"device": "cuda:0 (H100)", "count": 1, "gpus": gpus()[:1]}, "ok", "cuda:0 (H100); driver 550.54.15"),
        ({"gpus": gpus()[:1]}, "fail", "nvidia-smi lists 1 GPUs, and this torch is built without CUDA"),
        ({"gpus": gpus()[:1], "built_for": "12.8"}, "fail", "nvidia-smi lists 1 GPUs, and torch sees none"),
        ({"gpus": gpus()[1:], "count": 2, "device": "cuda:0"}, "warn", "others hold 39.1 of 79.6 GiB of GPU 1"),
        (
            {"gpus": [gpus()[0] | {"percent": 97}], "count": 1, "device": "cuda:0"},
            "warn",
            "others hold 0.6 of 79.6 GiB of GPU 0 (NVIDIA H100) and keep it 97 % busy",
        ),
        ({"unreached": ["cuda:0 → cuda:1"], "count": 2, "device": "cuda:0"}, "warn", "no peer access between cuda:0 →"),
        ({"problem": "CUDA_VISIBLE_DEVICES=7 names GPUs"}, "fail", "this process: CUDA_VISIBLE_DEVICES=7 names GPUs"),
    ],
)
def test_judging(changes: dict[str, Any], status: str, told: str) -> None:
    (finding,) = judge({0: reading(**changes)}, places_of({0: "here"}), [0])
    assert finding.status == status
    assert told in finding.measured


def test_hidden_gpus_are_no_fault() -> None:
    (finding,) = judge({0: reading(gpus=gpus()[:1], visible="")}, places_of({0: "here"}), [0])
    assert finding.status == "skip"


def test_a_rank_without_a_gpu_among_others_is_named() -> None:
    readings = {0: reading(device="cuda:0 (H100, 80 GiB)", count=1), 1: reading()}
    (finding,) = judge(readings, places_of({0: "n1", 1: "n2"}), [0, 1])
    assert (finding.status, finding.measured) == (
        "fail",
        "rank 1 on n2 would compute on the CPU, and the others on GPUs",
    )
