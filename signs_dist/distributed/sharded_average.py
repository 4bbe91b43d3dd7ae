"""The moving average of the weights, spread over the processes as the optimizer is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.distributed.sharded_tree import ShardedTree
from signs_dist.learning.weight_average import WeightAverage
from signs_dist.models.weights import named_weights, plain_name


class ShardedAverage(WeightAverage):
    """Each process averages its pieces of the parameters that train, and everything else whole.

    `weights` and `state_dict` hold this process's part only. All processes enter `swapped_into` together.

    Args:
        model: what is averaged, and where the average starts.
        decay: as for `WeightAverage`.
        tree: which pieces are this process's.

    Attributes:
        names: of all weights, in the order of the model.
        spread: the parameters that are averaged in pieces, by plain name.
    """

    def __init__(self, model: nn.Module, decay: float, tree: ShardedTree) -> None:
        self._tree = tree
        every = {plain_name(name): each for name, each in model.named_parameters(remove_duplicate=False)}
        self.names = tuple(named_weights(model))
        self.spread = {name: every[name] for name in self.names if name in every and every[name] in tree.pieces}
        super().__init__(model, decay)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a whole average, whatever the processes it was spread over.

        Raises:
            KeyError: as for `WeightAverage`.
        """
        weights = {}
        for name, tensor in state["weights"].items():
            own = self._tree.own_part(tensor, self.spread[name]) if name in self.spread else tensor
            if own is not None:
                weights[name] = own
        super().load_state_dict({**state, "weights": weights})

    def _currents(self, model: nn.Module) -> dict[str, Tensor]:
        pieces = {name: self._tree.pieces[parameter] for name, parameter in self.spread.items()}
        return {
            name: tensor if name not in pieces else pieces[name].detach()  # type: ignore[union-attr]
            for name, tensor in named_weights(model).items()
            if name not in pieces or pieces[name] is not None
        }

    @torch.no_grad()
    def _put_into(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        super()._put_into(model, weights)
        self._tree.share_weights()
