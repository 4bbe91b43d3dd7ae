"""How processes and devices share the work of a run: one, nn.DataParallel, DistributedDataParallel, side by side.

Each has the same few attributes and methods, so that the training loop knows no rank.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from signs_dist.config.settings import ProcessesConfig
from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.group import Group, join, total
from signs_dist.distributed.step_sync import DistributedSync, ExactSync, ReplicatedSync, StepSync, flat_buffers
from signs_dist.environment.context import Context
from signs_dist.environment.devices import DevicePlan, plan_devices
from signs_dist.errors import UserError
from signs_dist.learning.metrics import to_host
from signs_dist.learning.quick_start import distributed_without_compiler, use_deterministic_algorithms
from signs_dist.monitoring.pulse import Pulse

Result = TypeVar("Result")
Wishes = tuple[Callable[[], bool], Callable[[], bool]]
"""Asked once a step: whether this process would like to stop, and to save."""

# Newer releases of PyTorch warn at the first name, older ones have no other.
_BUFFERS_ARGUMENT = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    else "broadcast_buffers"
)


class SingleProcess:
    """One process on one device: the whole of every batch is its own. Also what the others are made from.

    Attributes:
        name: the strategy's name, as written to result.json.
        device: where the model and the batches are.
        shard: this process's part of the data.
        world_size: number of processes.
        is_main: whether this process writes files and speaks to the terminal.
        num_replicas: micro-batches that go through the model at once in this process.
    """

    name = "single"
    world_size = 1
    is_main = True
    num_replicas = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.shard = Shard(0, 1)

    def wrap(self, forward: nn.Module, *, for_training: bool, exact: bool = False) -> nn.Module:
        """The module as the loop calls it: with (images, labels, keys), keys one per micro-batch."""
        return forward

    def sync(
        self, model: nn.Module, wrapped: nn.Module, micro_batches: MicroBatches, wishes: Wishes, *, exact: bool
    ) -> StepSync:
        """What brings a step's micro-batches together, for the plain `model` and what `wrap` made of it."""
        if exact:
            return ExactSync(model, micro_batches, self.shard, *wishes, group=None)
        return StepSync(model, micro_batches, self.shard, *wishes)

    def total(self, tensors: Mapping[str, Tensor]) -> dict[str, npt.NDArray[np.int64]]:
        """Integer sums over all processes, on the host of each."""
        return to_host(tensors)

    def all_succeed(self, action: Callable[[], Result], phase: str) -> Result:
        """Do something on every process; if the user's input fails on any, `UserError` on all."""
        return action()

    def share_value(self, value: Any, phase: str) -> Any:
        """Rank 0's plain value, on all processes."""
        return value

    def gather_values(self, value: Any, phase: str) -> list[Any]:
        """The plain values of all processes, by rank."""
        return [value]

    def describe(self) -> str:
        """What the banner says about the ways of sharing, or "" where there is nothing to share."""
        return ""

    def close(self) -> None:
        """Leave the other processes."""


class DataParallel(SingleProcess):
    """nn.DataParallel: one process, several GPUs; each takes whole micro-batches. A convenience: DDP is faster."""

    name = "data_parallel"

    def __init__(self, devices: Sequence[torch.device]) -> None:
        super().__init__(devices[0])
        self.devices = list(devices)
        self.num_replicas = len(devices)

    def wrap(self, forward: nn.Module, *, for_training: bool, exact: bool = False) -> nn.Module:
        """As in SingleProcess: replicated over the GPUs at each call."""
        return Replicas(forward, self.devices) if for_training else EvaluationReplicas(forward, self.devices)

    def sync(
        self, model: nn.Module, wrapped: nn.Module, micro_batches: MicroBatches, wishes: Wishes, *, exact: bool
    ) -> StepSync:
        """As in SingleProcess."""
        assert isinstance(wrapped, Replicas)
        assert not exact
        return ReplicatedSync(
            model,
            micro_batches,
            self.shard,
            *wishes,
            num_replicas=self.num_replicas,
            replicas_buffers=wrapped.take_buffers,
        )

    def describe(self) -> str:
        """As in SingleProcess."""
        return (
            f"nn.DataParallel over {self.num_replicas} GPUs, which gathers on {self.device}; faster: "
            f"torchrun --nproc_per_node={self.num_replicas} -m signs_dist.train"
        )


class DistributedProcesses(SingleProcess):
    """DistributedDataParallel: this process is one of several, each with one device and whole micro-batches."""

    name = "distributed"

    def __init__(self, device: torch.device, group: Group) -> None:
        super().__init__(device)
        self.group = group
        self.shard = Shard(group.rank, group.world_size)
        self.world_size = group.world_size
        self.is_main = group.rank == 0

    def wrap(self, forward: nn.Module, *, for_training: bool, exact: bool = False) -> nn.Module:
        """As in SingleProcess. Exact mode sums gradients itself and needs no wrapper."""
        if not for_training or exact:
            return forward
        buffers: dict[str, Any] = {_BUFFERS_ARGUMENT: False}
        with distributed_without_compiler():
            return DistributedDataParallel(
                forward,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                gradient_as_bucket_view=True,
                **buffers,  # they move by the mean over all micro-batches instead
            )

    def sync(
        self, model: nn.Module, wrapped: nn.Module, micro_batches: MicroBatches, wishes: Wishes, *, exact: bool
    ) -> StepSync:
        """As in SingleProcess."""
        if exact:
            return ExactSync(model, micro_batches, self.shard, *wishes, group=self.group)
        assert isinstance(wrapped, DistributedDataParallel)
        return DistributedSync(model, micro_batches, self.shard, *wishes, group=self.group, wrapper=wrapped)

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


class _WithBuffers(nn.Module):
    """A module that returns its floating-point buffers too, since a replica's are dropped after its forward pass."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any) -> Any:
        outputs = self.module(*inputs)
        # A replica lists no parameters of its own, so the device is that of its outputs.
        return *outputs, flat_buffers(self.module, outputs[0].device)[None].detach()


class Replicas(nn.DataParallel[nn.Module]):
    """nn.DataParallel that gives each GPU one whole micro-batch of a pass.

    Called with images [n · b, …], labels [n · b] and n keys, n at most the number of GPUs; the wrapped module gets b
    images, their labels and a list of one key, and its outputs are joined along their first dimension.
    """

    def __init__(self, module: nn.Module, devices: Sequence[torch.device]) -> None:
        super().__init__(_WithBuffers(module), device_ids=list(devices))
        self._buffers_seen: Tensor | None = None

    def scatter(self, inputs: tuple[Any, ...], kwargs: dict[str, Any] | None, device_ids: Any) -> Any:
        """Cut (images, labels, keys) at the micro-batches, each part on its GPU."""
        images, labels, keys = inputs
        parts = zip(images.chunk(len(keys)), labels.chunk(len(keys)), keys, device_ids, strict=False)
        scattered = tuple(
            (part.to(device, non_blocking=True), truth.to(device, non_blocking=True), [key])
            for part, truth, key, device in parts
        )
        return scattered, ({},) * len(scattered)

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """The wrapped module's outputs for the whole pass."""
        *outputs, self._buffers_seen = super().forward(*inputs, **kwargs)
        return tuple(outputs)

    def take_buffers(self) -> Tensor:
        """The replicas' buffers after the last pass, float32 [n, size]."""
        assert self._buffers_seen is not None
        return self._buffers_seen


class EvaluationReplicas(nn.DataParallel[nn.Module]):
    """nn.DataParallel for batches of any size from 1: called with (images, labels), cut as evenly as may be."""

    def __init__(self, module: nn.Module, devices: Sequence[torch.device]) -> None:
        super().__init__(module, device_ids=list(devices))


def plan_process(
    context: Context, *, device: str = "auto", data_parallel: bool = False, device_ids: str | None = None
) -> DevicePlan:
    """Which devices this process uses, for its flags and what this machine has. Raises `UserError`."""
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
    """The device of a command that is one process on one device, such as evaluate.

    Raises:
        UserError: several processes, several devices, or one that is not there.
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


def make_strategy(plan: DevicePlan, context: Context, config: ProcessesConfig, pulse: Pulse) -> SingleProcess:
    """The strategy for the planned devices; several processes are connected.

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


def torch_devices(plan: DevicePlan) -> list[torch.device]:
    """The planned devices as torch's."""
    if plan.kind == "cpu":
        return [torch.device("cpu")]
    return [torch.device("cuda", index) for index in plan.indices]


def convert_sync_batchnorm(model: nn.Module, strategy: SingleProcess, counts: Sequence[int]) -> nn.Module:
    """`model` with BatchNorm over all processes' micro-batches.

    Args:
        model: the plain model.
        strategy: must be several processes on GPUs.
        counts: micro-batches of each process in a step; BatchNorm waits for all, so they must be equal.

    Raises:
        UserError: it cannot be done here.
    """
    if strategy.device.type != "cuda" or strategy.world_size == 1:
        raise UserError(
            "train.sync_batchnorm=true is for several processes on GPUs; here it has nothing to do. "
            "Set train.sync_batchnorm=false."
        )
    if len(set(counts)) > 1:
        raise UserError(
            f"train.sync_batchnorm=true needs as many micro-batches on each process, not {tuple(counts)}. "
            f"Choose a train.micro_batch whose count divides by {strategy.world_size}."
        )
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return converted


def choose_exact_kernels() -> None:
    """Let PyTorch use deterministic kernels only; an operation without one raises RuntimeError when it runs."""
    use_deterministic_algorithms()
    # It would also fill every new tensor with NaN, to show reads of uninitialised memory: seconds, for nothing here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


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
