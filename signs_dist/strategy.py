"""How processes and devices share the work of a run. The only file that may name torch.distributed.

Every strategy has the same few attributes and methods, so that the training loop knows no rank.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from signs_dist.data.plan import Shard
from signs_dist.errors import UserError
from signs_dist.metrics import to_host


class SingleProcess:
    """One process on one device: the whole of every batch is its own.

    Attributes:
        name: the strategy's name, as written to result.json.
        device: where the model and the batches are.
        shard: this process's part of the data.
        world_size: number of processes.
        is_main: whether this process writes files and speaks to the terminal.
    """

    name = "single"
    world_size = 1
    is_main = True

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.shard = Shard(0, 1)

    def prepare(self, model: nn.Module) -> nn.Module:
        """The model as the loop calls it."""
        return model

    def total(self, tensors: Mapping[str, Tensor]) -> dict[str, npt.NDArray[np.float64]]:
        """Sums over all processes, on the host."""
        return to_host(tensors)


def choose_device(requested: str) -> torch.device:
    """The device for `--device`: auto takes the first GPU where there is one, else the CPU.

    Raises:
        UserError: a name that is not a device's, or a GPU that is not there.
    """
    if requested == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    if requested == "cpu":
        return torch.device("cpu")
    match = re.fullmatch(r"cuda(?::([0-9]{1,4}))?", requested)
    if match is None:
        raise UserError(f"--device {requested}: it is auto, cpu, cuda or cuda:N, such as cuda:0.")
    num_devices = torch.cuda.device_count()
    index = int(match[1] or 0)
    if index >= num_devices:
        seen = f"it sees cuda:0 to cuda:{num_devices - 1}" if num_devices else "it sees no GPU"
        raise UserError(f"--device {requested}: this process has no such GPU; {seen}. Type --device auto.")
    return torch.device("cuda", index)


def describe_device(device: torch.device) -> str:
    """The device with its name and memory, for people."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)"
    return "cpu"
