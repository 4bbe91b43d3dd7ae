"""Gradients in fewer bytes, in fast mode: as bfloat16, or as products of two thin matrices (PowerSGD).

DistributedDataParallel calls a hook of `torch.distributed.algorithms.ddp_comm_hooks` for each bucket of gradients.
"""
# No `from __future__ import annotations`: DistributedDataParallel compares the annotations of a hook with its types.

import dataclasses
from typing import Any, Literal

import torch
from torch._C._distributed_c10d import GradBucket
from torch.nn.parallel import DistributedDataParallel

from signs_dist.config.settings import TrainConfig
from signs_dist.errors import UserError


@dataclasses.dataclass(frozen=True)
class Compression:
    """How gradients are sent.

    Attributes:
        kind: `train.gradient_compression`.
        rank: of PowerSGD: the columns of each thin matrix.
        start_step: of PowerSGD: the steps before it, in which gradients are sent whole.
    """

    kind: Literal["none", "bfloat16", "powersgd"] = "none"
    rank: int = 1
    start_step: int = 1000

    @classmethod
    def from_config(cls, train: TrainConfig) -> "Compression":
        """What the settings ask for."""
        return cls(train.gradient_compression, train.powersgd_rank, train.powersgd_start_step)

    def bucket_megabytes(self, device_type: str, num_bytes: int) -> int | None:
        """The size of DistributedDataParallel's buckets in MiB; None for its own choice.

        Args:
            device_type: of the gradients.
            num_bytes: of all gradients.

        PowerSGD sums from within callbacks. gloo pairs the sums of the processes by their order, and calls back from
        several threads: with several buckets the order would differ between processes. So there is one bucket.
        """
        if self.kind != "powersgd" or device_type == "cuda":
            return None
        return num_bytes // 2**20 + 1

    def describe(self, num_steps: int) -> str:
        """A part of the banner's line on how the work is shared; "" without compression.

        Args:
            num_steps: of the whole run.
        """
        if self.kind == "bfloat16":
            return "; gradients are sent as bfloat16"
        if self.kind != "powersgd":
            return ""
        if self.start_step >= num_steps:
            return (
                f"; gradients are sent whole: the run ends after {num_steps:,} steps, before "
                f"train.powersgd_start_step={self.start_step}"
            )
        return f"; gradients are sent by PowerSGD of rank {self.rank}, whole in the first {self.start_step:,} steps"

    def require_precision(self, name: str) -> None:
        """Refuse PowerSGD with float16, whose gradients are not finite now and then: what it keeps would stay so.

        Raises:
            UserError: `name`, the precision of the run, is float16.
        """
        if self.kind == "powersgd" and name == "float16":
            raise UserError(
                "train.gradient_compression=powersgd does not work with train.precision=float16: a step that overflows "
                "would spoil all later steps. Set train.precision=bfloat16 or float32, or "
                "train.gradient_compression=bfloat16."
            )


def compress(wrapper: DistributedDataParallel, compression: Compression) -> None:
    """Let `wrapper` send its gradients compressed."""
    from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook

    if compression.kind == "bfloat16":
        wrapper.register_comm_hook(None, _send_bfloat16)
    elif compression.kind == "powersgd":
        state = powerSGD_hook.PowerSGDState(
            None, matrix_approximation_rank=compression.rank, start_powerSGD_iter=compression.start_step
        )
        wrapper.register_comm_hook(state, powerSGD_hook.powerSGD_hook)


def _send_bfloat16(state: Any, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    """torch's own hook, under a name that DistributedDataParallel does not refuse without NCCL."""
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

    return default_hooks.bf16_compress_hook(state, bucket)
