"""Faults to plant, each with the place that must be named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

NET = "model.name=tests.diverging.faulty_net:FaultyNet"


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault of side B.

    Attributes:
        right: settings that B has and A has not.
        direction, step, micro_batch, layer: what must be named. Micro-batches count from 0.
        tensor: what must be named; None for anything.
        entry: an entry of the optimizer's groups that must be named.
        processes: of A and of B.
        left: settings that A has.
        both: settings of both.
        odd: processes of one side that must be named.
        unsteady: whether B must be found not to repeat its own bits.
    """

    right: str
    direction: str
    step: int = 1
    micro_batch: int | None = None
    layer: str = ""
    tensor: str | None = None
    entry: str = ""
    processes: tuple[int, int] = (1, 1)
    left: str = ""
    both: str = ""
    odd: tuple[str, ...] = ()
    unsteady: bool = False

    @property
    def name(self) -> str:
        """For the test's name."""
        return f"{self.right or self.both}, {self.processes[0]} and {self.processes[1]} processes"


def net(fault: str, at_step: int = 0, at_part: int = -1, ranks: str = "all") -> str:
    return f"model.args={{fault: {fault}, at_step: {at_step}, at_part: {at_part}, ranks: {ranks}}}"


def layer_fault(
    kind: str, layer: str, step: int, part: int, processes: tuple[int, int] = (1, 1), *, parameter: str = ""
) -> Fault:
    """A fault of one layer in one micro-batch."""
    where = f"{layer}.{parameter}" if parameter else layer
    direction = "backward" if kind in ("backward", "gradient") else "forward"
    tensor = where if parameter else None
    right = net(f"{kind}@{where}", step, part)
    return Fault(right, direction, step, part, layer, tensor, processes=processes)


IN_LAYERS = [
    layer_fault("forward", "conv1", 2, 0),
    layer_fault("forward", "conv2", 3, 5, (1, 2)),
    layer_fault("forward", "fc", 2, 7, (1, 3)),
    layer_fault("forward", "bn1", 2, 1, (2, 3)),
    layer_fault("forward", "bn2", 4, 3, (2, 1)),
    layer_fault("forward", "drop", 2, 4, (2, 2)),
    layer_fault("backward", "conv1", 2, 2, (1, 2)),
    layer_fault("backward", "conv2", 2, 0, (3, 2)),
    layer_fault("backward", "fc", 3, 6, (1, 3)),
    layer_fault("backward", "bn1", 2, 5),
    layer_fault("gradient", "conv1", 2, 1, parameter="weight"),
    layer_fault("gradient", "fc", 3, 7, (1, 2), parameter="bias"),
    layer_fault("gradient", "bn2", 2, 3, (3, 1), parameter="weight"),
    layer_fault("other_batch", "bn1", 2, 2, (1, 2)),
    layer_fault("other_batch", "bn2", 3, 6, (1, 3)),
]
BY_PROCESSES = [
    Fault(net("world@fc"), "forward", 1, 0, "fc", processes=(1, 2)),
    Fault(net("world@conv2"), "forward", 1, 0, "conv2", processes=(1, 3)),
    Fault(net("world@conv1", 3), "forward", 3, 0, "conv1", processes=(1, 3)),
    Fault(net("rank_seed@drop", ranks="others"), "forward", 1, 4, "drop", processes=(1, 2)),
    Fault(net("rank_seed@drop", 2, ranks="others"), "forward", 2, 3, "drop", processes=(1, 3)),
    Fault(net("forward@conv1", 2, ranks="others"), "forward", 2, 4, "conv1", processes=(1, 2)),
    Fault(net("shaky@conv2", 1), "forward", 1, 0, "conv2", unsteady=True),
    Fault(net("shaky@conv2", 3, 5), "forward", 3, 5, "conv2", processes=(1, 2), unsteady=True),
]
AFTER_MICRO_BATCHES = [
    Fault(
        net("reduction@fc.weight", 1, ranks="others"),
        "reduction",
        1,
        None,
        "fc",
        "fc.weight",
        processes=(1, 2),
        odd=("process 1 of B",),
    ),
    Fault(
        net("reduction@conv1.bias", 3, ranks="others"),
        "reduction",
        3,
        None,
        "conv1",
        "conv1.bias",
        processes=(2, 3),
        odd=("process 1 of B", "process 2 of B"),
    ),
    Fault(net("reduction@bn1.weight", 2), "reduction", 2, None, "bn1", "bn1.weight"),
    Fault(
        net("clipping", 2, ranks="others"),
        "clipping",
        2,
        processes=(1, 2),
        both="optim.clip_norm=0.01",
        odd=("process 1 of B",),
    ),
    Fault(
        net("optimizer@conv2.weight", 2, ranks="others"),
        "optimizer",
        2,
        None,
        "conv2",
        "conv2.weight",
        processes=(1, 3),
        odd=("process 1 of B", "process 2 of B"),
    ),
    Fault(net("optimizer@fc.bias", 4), "optimizer", 4, None, "fc", "fc.bias", processes=(2, 1)),
    Fault(net("average@fc.bias", 2, ranks="others"), "average", 2, processes=(1, 2), odd=("process 1 of B",)),
    Fault(net("buffers@fc.bias", 3, ranks="others"), "buffers", 3, processes=(1, 2), odd=("process 1 of B",)),
]
SGD = "optim.name=sgd optim.nesterov=false"
BY_SETTINGS = [
    Fault("optim.lr=0.05", "optimizer", entry="lr"),
    Fault("optim.lr=0.05", "optimizer", entry="lr", processes=(1, 2)),
    Fault("optim.momentum=0.8", "optimizer", 2, entry="momentum", both=SGD),
    Fault("optim.nesterov=true", "optimizer", 1, entry="nesterov", both="optim.name=sgd", left="optim.nesterov=false"),
    Fault("optim.weight_decay=0.01", "optimizer", entry="weight_decay", both=SGD),
    Fault("optim.betas=[0.9,0.99]", "optimizer", entry="betas", both="optim.name=adamw"),
    Fault("optim.betas=[0.8,0.999]", "optimizer", entry="betas", both="optim.name=adam", processes=(3, 1)),
    Fault("optim.eps=1e-6", "optimizer", entry="eps", both="optim.name=adamw"),
    Fault("optim.name=adamw", "optimizer", left="optim.name=sgd"),
    Fault("optim.clip_norm=0.5", "clipping", both="optim.clip_norm=0.01"),
    Fault("optim.clip_norm=null", "clipping", both="optim.clip_norm=0.01", processes=(1, 3)),
    Fault("ema.decay=0.15", "average", 2),
    Fault("ema.decay=null", "average", 1),
    Fault("ema.decay=0.15", "average", 2, processes=(1, 2), both="train.shard_optimizer=true"),
    Fault("loss.label_smoothing=0.2", "loss", 1, 0),
    Fault("loss.class_weights=[1,2,1]", "loss", 1, 0, processes=(1, 2)),
    Fault(
        "schedule.warmup_epochs=2", "optimizer", 1, entry="lr", both="schedule.name=cosine schedule.final_factor=0.1"
    ),
    Fault("seed=7", "samples", 1, 0),
    Fault("augment.brightness=0.5", "input", 1, 0, left="augment.brightness=0.1"),
    Fault("augment.rotate_degrees=20", "input", 1, 0, processes=(1, 2)),
    Fault("augment.mixup=1.0", "input", 1, 0),
    Fault("data.order=balanced", "samples", 1, 0),
    Fault("train.micro_batch=4", "plan"),
    Fault("train.global_batch=8", "plan"),
    Fault("train.precision=bfloat16", "forward", 1, 0, "conv1"),
    Fault("model.args={dropout: 0.31}", "forward", 1, 0, "drop", processes=(1, 2)),
    Fault("model.args={momentum: 0.2}", "buffers", 1, None, "bn1", "bn1.running_mean"),
    Fault("model.args={eps: 1.0e-4}", "forward", 1, 0, "bn1"),
    Fault(net("start@conv2.weight"), "forward", 1, 0, "conv2", processes=(1, 2)),
    Fault(net("start@fc.bias"), "forward", 1, 0, "fc"),
]
FAULTS = [*IN_LAYERS, *BY_PROCESSES, *AFTER_MICRO_BATCHES, *BY_SETTINGS]
"""All of them."""
STEPS = 4


def base_settings(colours: Path) -> list[str]:
    """Of both sides: a run of `STEPS` steps and more, in 8 micro-batches of 2."""
    return [
        f"data.root={colours}",
        f"data.cache={colours}/cache",
        "data.image_size=16",
        NET,
        "train.epochs=3",
        "train.global_batch=16",
        "train.micro_batch=2",
        "train.precision=float32",
        "ema.decay=0.9",
        "optim.clip_norm=1.0",
        "exact=true",
    ]
