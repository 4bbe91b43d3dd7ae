"""A copy of all that a training step changes, so that the step can be done once more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.training.loop import TrainingState

PLAIN = (bool, int, float, str)
"""Types of the attributes of layers that are kept, such as a counter of calls."""


class Snapshot:
    """What a training step changes, as it is now, on the device.

    Beside weights, buffers, optimizer, average and scaler it keeps plain attributes of the layers: a layer that counts
    its calls then does the step again as it did it before.

    Args:
        state: what is trained.
    """

    def __init__(self, state: TrainingState) -> None:
        self._tensors = [(tensor, tensor.detach().clone()) for tensor in _tensors_of(state)]
        self._optimizer = {
            parameter: {name: _copy(value) for name, value in entries.items()}
            for parameter, entries in state.optimizer.state.items()
        }
        self._groups = [dict(group) for group in state.optimizer.param_groups]
        self._scaler = dict(state.scaler.state_dict())
        self._num_updates = state.average.num_updates if state.average is not None else 0
        self._attributes = [(layer, _plain_attributes(layer)) for layer in state.model.modules()]

    @torch.no_grad()
    def restore(self, state: TrainingState) -> None:
        """Put it back, as often as it is called for."""
        for tensor, copy in self._tensors:
            tensor.copy_(copy)
        state.optimizer.state.clear()
        for parameter, entries in self._optimizer.items():
            state.optimizer.state[parameter] = {name: _copy(value) for name, value in entries.items()}
        for group, kept in zip(state.optimizer.param_groups, self._groups, strict=True):
            group.update(kept)
        if self._scaler:
            state.scaler.load_state_dict(dict(self._scaler))
        if state.average is not None:
            state.average.num_updates = self._num_updates
        for layer, attributes in self._attributes:
            layer.__dict__.update(attributes)


def _tensors_of(state: TrainingState) -> Iterator[Tensor]:
    """Weights and buffers, what the optimizer steps where it has pieces of them, and the average."""
    yield from state.model.parameters()
    yield from state.model.buffers()
    for group in state.optimizer.param_groups:
        yield from group["params"]
    if state.average is not None:
        yield from state.average.weights().values()


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _plain_attributes(layer: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(layer).items() if type(value) in PLAIN}
