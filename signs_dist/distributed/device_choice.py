"""Which devices this process uses: from its flags, and from the devices that this machine has."""

from __future__ import annotations

import torch

from signs_dist.environment.context import Context
from signs_dist.environment.devices import DevicePlan, plan_devices
from signs_dist.errors import UserError


def plan_process(
    context: Context, *, device: str = "auto", data_parallel: bool = False, device_ids: str | None = None
) -> DevicePlan:
    """Plan the devices of this process from its flags and the visible GPUs. Raises `UserError`."""
    return plan_devices(
        device=device,
        data_parallel=data_parallel,
        device_ids=device_ids,
        visible=context.visible_devices,
        num_devices=0 if device == "cpu" else torch.cuda.device_count(),
        rank=context.rank,
        world_size=context.world_size,
        local_rank=context.local_rank,
        local_world_size=context.local_world_size,
        launcher=context.launcher,
    )


def choose_device(context: Context, requested: str) -> torch.device:
    """The device of a command that runs as one process on one device, such as evaluate.

    Raises:
        UserError: there are several processes or devices, or the device is not there.
    """
    if context.world_size > 1:
        raise UserError(
            f"{context.launcher} started {context.world_size} processes, and this command is one. Start it with plain "
            f"python (under srun, with --ntasks=1)."
        )
    plan = plan_process(context, device=requested)
    if len(plan.indices) > 1:
        raise UserError(f"--device {requested}: this command uses one device. Type --device cuda:{plan.indices[0]}.")
    return torch_devices(plan)[0]


def torch_devices(plan: DevicePlan) -> list[torch.device]:
    """The planned devices as torch.device."""
    if plan.kind == "cpu":
        return [torch.device("cpu")]
    return [torch.device("cuda", index) for index in plan.indices]


def describe_devices(plan: DevicePlan) -> str:
    """The planned devices with their names and memory, for people."""
    if plan.kind == "cpu":
        return "cpu"
    return ", ".join(
        describe_device(device, physical) for device, physical in zip(torch_devices(plan), plan.physical, strict=True)
    )


def describe_device(device: torch.device, physical: str = "") -> str:
    """The device with its name and memory, for people; `physical` is what CUDA_VISIBLE_DEVICES calls it."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        number = f" = physical {physical}" if physical else ""
        return f"{device}{number} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)"
    return "cpu"
