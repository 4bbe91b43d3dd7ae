"""A trained model for each of several threads: they share the weights, and nothing that a forward pass may change."""

from __future__ import annotations

import copy
import dataclasses
import itertools

from torch import nn

from signs_dist.inference.exported_model import ExportedModel, ModuleRun
from signs_dist.inference.trained_model import TrainedModel

SMALLEST_PART = 8
"""Photos of a forward pass below which a second thread brings nothing."""
_NO_COPY = (TypeError, ValueError, RuntimeError, AttributeError, copy.Error)
"""What `copy.deepcopy` raises where a network holds what it cannot copy, such as a lock or a computed tensor."""


def choose_num_copies(device_type: str, num_threads: int, num_together: int) -> int:
    """How many threads compute forward passes at the same time, each of a part of the photos.

    On a CPU, threads that each run the network on photos of their own never wait for each other. Threads that share one
    forward pass meet after each of its operations, and there wait for those that decode photos. On a GPU, one thread
    is enough.

    Args:
        device_type: of the network: cpu or cuda.
        num_threads: torch's threads.
        num_together: photos of a batch. Together the parts are no more than this, so that they take no more memory.
    """
    is_divided = device_type == "cpu" and num_together >= num_threads * SMALLEST_PART
    return num_threads if is_divided else 1


def copy_model(model: TrainedModel | ExportedModel, num_copies: int) -> list[TrainedModel | ExportedModel]:
    """Copies of a model for `num_copies` threads, with the same weights in memory.

    A network may keep something of a forward pass on itself. Each copy has modules of its own.

    Returns:
        The copies; the model alone where one is wanted, or where it cannot be copied, as in ONNX.
    """
    if num_copies < 2:
        return [model]
    try:
        return [_copied(model) for _ in range(num_copies)]
    except _NO_COPY:
        return [model]


def _copied(model: TrainedModel | ExportedModel) -> TrainedModel | ExportedModel:
    if isinstance(model, TrainedModel):
        return dataclasses.replace(model, network=_with_same_weights(model.network))
    if not isinstance(model.run, ModuleRun):
        raise TypeError("not a module")
    run = dataclasses.replace(model.run, module=_with_same_weights(model.run.module))
    return dataclasses.replace(model, run=run)


def _with_same_weights(network: nn.Module) -> nn.Module:
    shared = {id(tensor): tensor for tensor in itertools.chain(network.parameters(), network.buffers())}
    return copy.deepcopy(network, shared)
