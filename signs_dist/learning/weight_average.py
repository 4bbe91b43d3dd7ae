"""An exponential moving average of a model's weights, evaluated and saved instead of the last weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.models.weights import named_weights


class WeightAverage:
    """A running average of every floating-point parameter and buffer of a model; other buffers are copied.

    Floating-point buffers (BatchNorm's running statistics) are averaged too, so that they fit the averaged weights.
    The average is on the model's device: make it after the model was moved there. It keeps references to the model's
    tensors, as an optimizer does: a look-up by name at each step takes longer than the average of a small network.

    Args:
        model: what is averaged, and where the average starts.
        decay: share of the average that each update keeps. The first updates keep less, `(1 + n) / (10 + n)` after n
            updates, so that a short run forgets its initial weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        currents = self._currents(model)
        self._average = {name: tensor.detach().clone() for name, tensor in currents.items()}
        pairs = [(self._average[name], current) for name, current in currents.items()]
        self._averaged = [(average, current) for average, current in pairs if average.is_floating_point()]
        self._copied = [(average, current) for average, current in pairs if not average.is_floating_point()]

    def decay_now(self) -> float:
        """The decay of the next update."""
        return min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model, once after each optimizer step."""
        if self._averaged:  # a process may have no piece of a small network
            averages, currents = zip(*self._averaged, strict=True)
            torch._foreach_lerp_(averages, currents, 1 - self.decay_now())
        if self._copied:
            counters, counted = zip(*self._copied, strict=True)
            torch._foreach_copy_(counters, counted)
        self.num_updates += 1

    @torch.no_grad()
    def move(self, share: Tensor) -> None:
        """As `update`, for a replay on the device: `share` is a scalar there, 1 - decay, and nothing is counted here.

        Add 1 to `num_updates` after each replay. The result is that of `update` within rounding.
        """
        averages, currents = zip(*self._averaged, strict=True)
        ways = torch._foreach_sub(currents, averages)
        torch._foreach_mul_(ways, share)
        torch._foreach_add_(averages, ways)
        if self._copied:
            counters, counted = zip(*self._copied, strict=True)
            torch._foreach_copy_(counters, counted)

    @contextlib.contextmanager
    def swapped_into(self, model: nn.Module) -> Iterator[None]:
        """Within the block, `model` holds the averaged weights; afterwards its own, bit for bit.

        The model's own tensors are written in place, so wrappers around it see the average as well.
        """
        own = {name: tensor.detach().clone() for name, tensor in self._currents(model).items()}
        self._put_into(model, self._average)
        try:
            yield
        finally:
            self._put_into(model, own)

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights under plain names, to save or to load into a model. Not copies."""
        return dict(self._average)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs: `num_updates` and `weights`. The tensors are not copies."""
        return {"num_updates": self.num_updates, "weights": self.weights()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            KeyError: it is of a model with other names; the first name that differs.
        """
        self.num_updates = int(state["num_updates"])
        if state["weights"].keys() != self._average.keys():
            raise KeyError(sorted(state["weights"].keys() ^ self._average.keys())[0])
        for name, tensor in state["weights"].items():
            self._average[name].copy_(tensor)

    def _currents(self, model: nn.Module) -> dict[str, Tensor]:
        """What is averaged of a model, by plain name. Writing to it changes the model."""
        return named_weights(model)

    @torch.no_grad()
    def _put_into(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        for name, tensor in self._currents(model).items():
            tensor.copy_(weights[name])
