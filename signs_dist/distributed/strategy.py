"""How processes and devices share the work of a run: one process, nn.DataParallel, or DistributedDataParallel.

The three classes have the same attributes and methods, so the training loop knows no rank.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from signs_dist.config.settings import Config, ProcessesConfig
from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.compression import Compression, compress
from signs_dist.distributed.device_choice import torch_devices
from signs_dist.distributed.group import Group, total
from signs_dist.distributed.rendezvous import join
from signs_dist.distributed.replicas import EvaluationReplicas, Replicas
from signs_dist.distributed.step_sync import DistributedSync, ExactSync, ReplicatedSync, StepShare, StepSync
from signs_dist.environment.context import Context
from signs_dist.environment.devices import DevicePlan
from signs_dist.errors import UserError
from signs_dist.learning.metrics import to_host
from signs_dist.learning.quick_start import distributed_without_compiler
from signs_dist.models.trainable import frozen_layers, keep_frozen
from signs_dist.monitoring.pulse import Pulse

Result = TypeVar("Result")
Wishes = tuple[Callable[[], bool], Callable[[], bool]]
"""Both are called once a step: whether this process wants to stop, and whether it wants to save."""


@dataclasses.dataclass(frozen=True)
class Summing:
    """How the gradients of a step are summed over the processes.

    Attributes:
        exact: in one fixed order.
        shards_optimizer: in exact mode, each of several processes gets the gradients of a part of the weights.
        compression: in fast mode, how gradients are sent.
    """

    exact: bool = False
    shards_optimizer: bool = False
    compression: Compression = dataclasses.field(default_factory=Compression)

    @classmethod
    def from_config(cls, config: Config) -> Summing:
        """What the settings ask for."""
        return cls(config.exact, config.train.shard_optimizer, Compression.from_config(config.train))


FAST = Summing()
"""Gradients are sent whole, as float32."""

# Newer releases of PyTorch warn about `broadcast_buffers`; older releases have no `forward_sync_buffers`.
_BUFFERS_ARGUMENT = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    else "broadcast_buffers"
)


class SingleProcess:
    """One process on one device, which computes every batch alone; the base of the other two.

    Attributes:
        name: the name of the strategy in result.json.
        device: where the model and the batches are.
        shard: this process's part of the data.
        world_size: number of processes.
        is_main: whether this process writes files and prints.
        num_replicas: how many micro-batches go through the model at once in this process.
    """

    name = "single"
    world_size = 1
    is_main = True
    num_replicas = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.shard = Shard(0, 1)

    def wrap(self, forward: nn.Module, *, for_training: bool, summing: Summing = FAST) -> nn.Module:
        """The module that the loop calls with (images, labels, keys), one key per micro-batch."""
        return forward

    def sync(
        self, model: nn.Module, wrapped: nn.Module, micro_batches: MicroBatches, wishes: Wishes, summing: Summing
    ) -> StepSync:
        """The object that combines the micro-batches of a step; `wrapped` is what `wrap` returned for `model`."""
        share = StepShare(model, micro_batches, self.shard, *wishes)
        return ExactSync(share, group=None) if summing.exact else StepSync(share)

    def total(self, tensors: Mapping[str, Tensor]) -> dict[str, npt.NDArray[np.int64]]:
        """Sum integer tensors over all processes; every process gets the sums on its host."""
        return to_host(tensors)

    def all_succeed(self, action: Callable[[], Result], phase: str) -> Result:
        """Call `action` on every process. If it raises `UserError` on one process, all processes raise `UserError`."""
        return action()

    def share_value(self, value: Any, phase: str) -> Any:
        """The plain value of rank 0, on all processes."""
        return value

    def gather_values(self, value: Any, phase: str) -> list[Any]:
        """The plain values of all processes, by rank."""
        return [value]

    def describe(self) -> str:
        """The banner's line on how the work is shared, or "" for one process on one device."""
        return ""

    def close(self) -> None:
        """Leave the other processes."""


class DataParallel(SingleProcess):
    """nn.DataParallel: one process uses several GPUs, each for whole micro-batches. torchrun is faster."""

    name = "data_parallel"

    def __init__(self, devices: Sequence[torch.device]) -> None:
        super().__init__(devices[0])
        self.devices = list(devices)
        self.num_replicas = len(devices)

    def wrap(self, forward: nn.Module, *, for_training: bool, summing: Summing = FAST) -> nn.Module:
        """As in SingleProcess; each call copies the module to all GPUs."""
        return Replicas(forward, self.devices) if for_training else EvaluationReplicas(forward, self.devices)

    def sync(
        self, model: nn.Module, wrapped: nn.Module, micro_batches: MicroBatches, wishes: Wishes, summing: Summing
    ) -> StepSync:
        """As in SingleProcess."""
        assert isinstance(wrapped, Replicas)
        assert not summing.exact
        share = StepShare(model, micro_batches, self.shard, *wishes)
        return ReplicatedSync(share, num_replicas=self.num_replicas, replicas_buffers=wrapped.take_buffers)

    def describe(self) -> str:
        """As in SingleProcess."""
        return (
            f"nn.DataParallel over {self.num_replicas} GPUs, which gathers on {self.device}; faster: "
            f"torchrun --nproc_per_node={self.num_replicas} -m signs_dist.train"
        )


class DistributedProcesses(SingleProcess):
    """DistributedDataParallel: several processes, each with one device and whole micro-batches."""

    name = "distributed"

    def __init__(self, device: torch.device, group: Group) -> None:
        super().__init__(device)
        self.group = group
        self.shard = Shard(group.rank, group.world_size)
        self.world_size = group.world_size
        self.is_main = group.rank == 0

    def wrap(self, forward: nn.Module, *, for_training: bool, summing: Summing = FAST) -> nn.Module:
        """As in SingleProcess. Exact mode sums the gradients itself and needs no wrapper."""
        if not for_training or summing.exact:
            return forward
        buffers: dict[str, Any] = {_BUFFERS_ARGUMENT: False}
        num_bytes = sum(
            parameter.numel() * parameter.element_size()
            for parameter in forward.parameters()
            if parameter.requires_grad
        )
        wrapper = distributed_without_compiler()(
            forward,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            bucket_cap_mb=summing.compression.bucket_megabytes(self.device.type, num_bytes),
            **buffers,  # `StepSync` moves the buffers
        )
        compress(wrapper, summing.compression)
        return wrapper

    def sync(
        self, model: nn.Module, wrapped: nn.Module, micro_batches: MicroBatches, wishes: Wishes, summing: Summing
    ) -> StepSync:
        """As in SingleProcess."""
        share = StepShare(model, micro_batches, self.shard, *wishes)
        if summing.exact:
            return ExactSync(share, group=self.group, shards_optimizer=summing.shards_optimizer)
        assert isinstance(wrapped, DistributedDataParallel)
        return DistributedSync(share, group=self.group, wrapper=wrapped)

    def total(self, tensors: Mapping[str, Tensor]) -> dict[str, npt.NDArray[np.int64]]:
        """As in SingleProcess."""
        return to_host(total(tensors, self.group))

    def all_succeed(self, action: Callable[[], Result], phase: str) -> Result:
        """As in SingleProcess."""
        return self.group.all_succeed(action, phase)

    def share_value(self, value: Any, phase: str) -> Any:
        """As in SingleProcess."""
        return self.group.share_value(value, phase)

    def gather_values(self, value: Any, phase: str) -> list[Any]:
        """As in SingleProcess."""
        return self.group.gather_values(value, phase)

    def describe(self) -> str:
        """As in SingleProcess."""
        backend = "NCCL" if self.device.type == "cuda" else "gloo"
        return f"DistributedDataParallel, {self.world_size} processes over {backend}"

    def close(self) -> None:
        """As in SingleProcess."""
        self.group.close()


def make_strategy(plan: DevicePlan, context: Context, config: ProcessesConfig, pulse: Pulse) -> SingleProcess:
    """The strategy for the planned devices. If there are several processes, this connects them.

    Raises:
        PeerLostError: a process did not arrive.
    """
    devices = torch_devices(plan)
    if context.world_size > 1:
        group = join(
            context,
            devices[0],
            rendezvous_seconds=config.rendezvous_seconds,
            timeout_seconds=config.timeout_seconds,
            pulse=pulse,
        )
        return DistributedProcesses(devices[0], group)
    return DataParallel(devices) if len(devices) > 1 else SingleProcess(devices[0])


def convert_sync_batchnorm(model: nn.Module, strategy: SingleProcess, counts: Sequence[int]) -> nn.Module:
    """Let BatchNorm in `model` normalise over the micro-batches of all processes. Frozen layers stay frozen.

    Args:
        model: the plain model.
        strategy: several processes on GPUs.
        counts: how many micro-batches each process has in a step. BatchNorm waits for all processes, so all counts must
            be equal.

    Raises:
        UserError: it is one process or the CPU, or the counts differ.
    """
    if strategy.device.type != "cuda" or strategy.world_size == 1:
        raise UserError(
            "train.sync_batchnorm=true is for several processes on GPUs, which this run does not use. "
            "Set train.sync_batchnorm=false."
        )
    if len(set(counts)) > 1:
        raise UserError(
            f"train.sync_batchnorm=true needs the same number of micro-batches on each process, not {tuple(counts)}. "
            f"Choose a train.micro_batch that makes the number of micro-batches divisible by {strategy.world_size}."
        )
    frozen = frozen_layers(model)  # their marks are on the layers that torch replaces
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    keep_frozen(converted, frozen)
    return converted
