"""GPUs: whether torch sees them, their memory, who else uses them, and whether they reach each other."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from signs_dist.environment.context import Context
from signs_dist.errors import UserError
from signs_dist.health.finding import Finding, Place, listed

CHECK = "devices"
ANSWER_SECONDS = 8.0
BUSY_SHARE = 0.1
"""From this share of a GPU's memory on, what other programs hold is told."""
BUSY_PERCENT = 20
"""From this load on, before the doctor computes anything, other programs compute there."""


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi shows it.

    Attributes:
        index: its number.
        name: of its kind.
        driver: its version.
        total_bytes, used_bytes: of its memory.
        percent: of the last moments in which it computed.
        programs: what runs on it, as far as nvidia-smi tells.
    """

    index: str
    name: str
    driver: str
    total_bytes: int
    used_bytes: int
    percent: int
    programs: tuple[str, ...] = ()


def read_devices(context: Context, device: str = "auto") -> dict[str, Any]:
    """What this process sees, as plain values for `judge`. Imports torch.

    Args:
        context: of this process.
        device: `--device`.
    """
    import torch

    found: dict[str, Any] = {
        "device": "cpu",
        "problem": "",
        "gpus": [dataclasses.asdict(gpu) for gpu in read_gpus()],
        "count": torch.cuda.device_count(),
        "built_for": torch.version.cuda or torch.version.hip or "",
        "visible": context.visible_devices,
        "unreached": [],
    }
    from signs_dist.distributed.device_choice import describe_devices, plan_process

    try:
        plan = plan_process(context, device=device)
        found["device"] = describe_devices(plan)
        found["index"] = plan.indices[0] if plan.indices else None
    except (UserError, RuntimeError) as error:  # RuntimeError: of CUDA
        found["problem"] = str(error).strip().split("\n")[0]
    count = found["count"]
    found["unreached"] = [
        f"cuda:{one} → cuda:{other}"
        for one in range(count)
        for other in range(count)
        if one != other and not torch.cuda.can_device_access_peer(one, other)
    ]
    return found


def read_gpus() -> list[Gpu]:
    """What nvidia-smi says; empty without it."""
    fields = "index,uuid,name,driver_version,memory.total,memory.used,utilization.gpu"
    rows = _ask(f"--query-gpu={fields}")
    if not rows:
        return []
    programs = _ask("--query-compute-apps=gpu_uuid,pid,process_name,used_memory")
    return parse_gpus(rows, programs)


def parse_gpus(rows: str, apps: str) -> list[Gpu]:
    """From nvidia-smi's lines of values with commas between them; memory is in MiB."""
    running: dict[str, list[str]] = {}
    for line in apps.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) == 4:
            running.setdefault(words[0], []).append(f"process {words[1]} ({words[2]}, {words[3]} MiB)")
    found = []
    for line in rows.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) == 7:
            index, uuid, name, driver, *numbers = words
            total, used, load = (int(text) if text.isdigit() else 0 for text in numbers)
            programs = tuple(running.get(uuid, ()))
            found.append(Gpu(index, name, driver, total * 2**20, used * 2**20, load, programs))
    return found


def _ask(query: str) -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    try:
        ended = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout if ended.returncode == 0 else ""


def find_driver(readings: Mapping[int, Mapping[str, Any]]) -> str:
    """The version of NVIDIA's driver; "" without one."""
    return next((gpu["driver"] for reading in readings.values() for gpu in reading["gpus"]), "")


def judge(
    readings: Mapping[int, Mapping[str, Any]], places: Mapping[int, Place], leaders: Sequence[int]
) -> list[Finding]:
    """Findings about the devices of all ranks.

    Args:
        readings: of each rank, from `read_devices`.
        places: of each rank.
        leaders: the ranks that speak for their machines.
    """
    found = [
        Finding(
            CHECK,
            "fail",
            f"{places[rank]}: {reading['problem']}",
            "a device for each rank",
            "nvidia-smi -L lists the GPUs of this machine",
        )
        for rank, reading in readings.items()
        if reading["problem"]
    ]
    kinds = {rank: reading["device"].partition(" ")[0].partition(":")[0] for rank, reading in readings.items()}
    if len(set(kinds.values())) > 1:
        on_cpu = [places[rank] for rank, kind in kinds.items() if kind == "cpu"]
        found.append(
            Finding(
                CHECK,
                "fail",
                f"{listed(on_cpu)} would compute on the CPU, and the others on GPUs",
                "one kind of device for all ranks",
                "ask for a GPU for each process (--gpus-per-node), or type --device cpu for all",
            )
        )
    for rank in leaders:
        found += _judge_machine(readings[rank], places[rank])
    if found:
        return found
    if set(kinds.values()) == {"cpu"}:
        return [Finding(CHECK, "skip", "no GPU here: the CPU computes, and no GPU is checked")]
    devices = list(dict.fromkeys(reading["device"] for reading in readings.values()))
    driver = find_driver(readings)
    told = f"{listed(devices)}{f'; driver {driver}' if driver else ''}"
    return [Finding(CHECK, "ok", told, "GPUs that torch sees, without other programs, that reach each other")]


def _judge_machine(reading: Mapping[str, Any], place: Place) -> list[Finding]:
    """What all ranks of a machine share."""
    found = []
    gpus, count, on = [Gpu(**gpu) for gpu in reading["gpus"]], reading["count"], f"{place}: "
    if gpus and not count and reading["visible"] is None:
        why = "this torch is built without CUDA" if not reading["built_for"] else "torch sees none"
        found.append(
            Finding(
                CHECK,
                "fail",
                f"{on}nvidia-smi lists {len(gpus)} GPUs, and {why}",
                "as many GPUs for torch as nvidia-smi lists",
                "install a torch with CUDA: https://pytorch.org/get-started/locally; then type python -m "
                "torch.utils.collect_env",
            )
        )
    for gpu in gpus:
        if (gpu.total_bytes and gpu.used_bytes > BUSY_SHARE * gpu.total_bytes) or gpu.percent >= BUSY_PERCENT:
            programs = f": {listed(gpu.programs)}" if gpu.programs else ""
            found.append(
                Finding(
                    CHECK,
                    "warn",
                    f"{on}others hold {gpu.used_bytes / 2**30:.1f} of {gpu.total_bytes / 2**30:.1f} GiB of GPU "
                    f"{gpu.index} ({gpu.name}) and keep it {gpu.percent} % busy{programs}",
                    "a GPU for this run alone",
                    "choose other GPUs (CUDA_VISIBLE_DEVICES, or --gpus of launch.local), or end those programs",
                )
            )
    if reading["unreached"]:
        found.append(
            Finding(
                CHECK,
                "warn",
                f"{on}no peer access between {listed(reading['unreached'])}: NCCL copies through the CPU's memory",
                "peer access between the GPUs of a machine",
                "nvidia-smi topo -m shows how they are connected; in a virtual machine or with an IOMMU an "
                "administrator allows it",
            )
        )
    return found
