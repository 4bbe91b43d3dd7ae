"""Settings of a run that this machine cannot compute, replaced by the nearest that it can."""

from __future__ import annotations

from typing import Any

from signs_dist.config.settings import Config
from signs_dist.learning.precision import Capability


def adapt(
    config: Config, capability: Capability, *, world_size: int, world_size_of_run: int
) -> tuple[Config, list[str]]:
    """The config with what this machine computes in place of what it cannot, and what differs, for people.

    Args:
        config: from `config_again`.
        capability: of this process's device.
        world_size: number of processes here.
        world_size_of_run: number of processes of the run.
    """
    changes: dict[str, Any] = {}
    told = []
    device, wanted = capability.device_type, config.train.precision
    lacks_bfloat16 = wanted == "bfloat16" and device == "cuda" and not capability.has_bfloat16
    if (wanted == "float16" and device == "cpu") or lacks_bfloat16:
        changes["precision"] = "float32"
        told.append(f"this device does not compute train.precision={wanted}: float32 is used instead")
    if config.train.sync_batchnorm and (device != "cuda" or world_size == 1 or world_size != world_size_of_run):
        changes["sync_batchnorm"] = False
        told.append(
            f"train.sync_batchnorm=true normalises over the {world_size_of_run} GPUs of the run: here BatchNorm "
            "normalises over each micro-batch, so that the numbers differ by more than rounding"
        )
    if (kind := config.train.gradient_compression) != "none" and world_size_of_run > 1:
        changes["gradient_compression"] = "none"
        told.append(f"the run sent its gradients by train.gradient_compression={kind}: here they are whole")
    if not changes:
        return config, []
    return config.model_copy(update={"train": config.train.model_copy(update=changes)}), told
