"""The state of an optimizer that is spread over the processes, saved and loaded as that of one optimizer.

A checkpoint does not know how many processes shared the optimizer, nor whether they did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from signs_dist.checkpointing.streamed import StreamedTensor
from signs_dist.checkpointing.tensors import Copier, loaded_groups, numbered_groups, put_optimizer
from signs_dist.distributed.group import Channel, Group
from signs_dist.distributed.sharded_average import ShardedAverage
from signs_dist.distributed.sharded_tree import ShardedTree, flat_view
from signs_dist.distributed.shipment import Place, Shipment, Spread
from signs_dist.learning.weight_average import WeightAverage

Groups = list[dict[str, Any]]
"""Groups of an optimizer over whole parameters."""
STEP = "step"
"""The entry of a parameter's state that counts its steps."""


class Sharding(Protocol):
    """How the state of an optimizer is spread over the processes: a `ShardedState`, or in fast mode a `ZeroState`.

    Attributes:
        parameters: whole ones, in the order of the optimizer's groups.
    """

    parameters: list[nn.Parameter]

    def param_groups(self, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
        """The groups in the state dict of an optimizer over whole parameters."""
        ...

    def share_weights(self) -> None:
        """After the optimizer's step: take the weights that other processes have stepped."""
        ...

    def ship(
        self, optimizer: torch.optim.Optimizer, average: WeightAverage | None, copier: Copier
    ) -> tuple[Shipment | None, dict[str, Any]]:
        """Copy what this process has for a checkpoint. All processes call this.

        Returns:
            (shipment, content): what travels to rank 0 while it writes, or None; and for rank 0 the entries
            `optimizer` and, if there is an average, `ema`.
        """
        ...

    def load(self, optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], source: Path) -> None:
        """Take this process's part of the state of an optimizer over whole parameters.

        Raises:
            UserError: the state belongs to an optimizer of other parameters.
        """
        ...


class ShardedState:
    """An optimizer over this process's pieces, seen as one over whole parameters.

    Args:
        tree: which pieces are this process's.
        groups: whole parameters, as `parameter_groups` returns them.
        group: all processes.
        channel: between them, for the threads that save. None: it is opened.

    Attributes:
        groups: as given.
        parameters: of all groups, in their order.
        channel: between the processes.
    """

    def __init__(self, tree: ShardedTree, groups: Groups, group: Group, channel: Channel | None = None) -> None:
        self._tree, self._group, self.groups = tree, group, groups
        self._sizes = [len(each["params"]) for each in groups]
        self.parameters: list[nn.Parameter] = [parameter for each in groups for parameter in each["params"]]
        self.channel = channel or group.open_channel()

    def share_weights(self) -> None:
        """As in `Sharding`."""
        self._tree.share_weights()

    def own_groups(self) -> list[dict[str, Any]]:
        """The groups of this process's optimizer: pieces in place of parameters. Frozen parameters stay whole."""
        return [
            {
                **each,
                "params": [
                    piece
                    for parameter in each["params"]
                    if (piece := self._tree.pieces.get(parameter, parameter)) is not None
                ],
            }
            for each in self.groups
        ]

    def param_groups(self, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
        """The groups in the state dict of an optimizer over whole parameters."""
        return numbered_groups(optimizer.param_groups, self._sizes)

    def load(self, optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], source: Path) -> None:
        """Take this process's part of the state of an optimizer over whole parameters.

        Raises:
            UserError: the state belongs to an optimizer of other parameters.
        """
        groups = loaded_groups(self.param_groups(optimizer), saved["param_groups"], source)
        own_groups: list[dict[str, Any]] = []
        state: dict[int, dict[str, Any]] = {}
        number = own_number = 0
        for size, group in zip(self._sizes, groups, strict=True):
            own = []
            for parameter in self.parameters[number : number + size]:
                if self._tree.pieces.get(parameter, parameter) is not None:
                    if number in saved["state"]:
                        state[own_number] = self._part_of(saved["state"][number], parameter)
                    own.append(own_number)
                    own_number += 1
                number += 1
            own_groups.append({**group, "params": own})
        put_optimizer(optimizer, {"state": state, "param_groups": own_groups}, source)

    def collect(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The state dict of the optimizer over whole parameters, on every process. All processes call this."""
        # On the CPU: a tensor on a GPU would arrive on the GPU of the process that sent it.
        own = {
            number: {name: value.cpu() if isinstance(value, Tensor) else value for name, value in state.items()}
            for number, state in self._own_state(optimizer).items()
        }
        every = self._group.gather_values(own, "gather the optimizer")
        state: dict[int, dict[str, Any]] = {}
        for number, parameter in enumerate(self.parameters):
            ranks = [rank for rank, _, _ in self._bounds(parameter)]
            parts = [every[rank][number] for rank in ranks if number in every[rank]]
            if parts:
                state[number] = {name: _join(name, parts, parameter) for name in parts[0]}
        return {"state": state, "param_groups": self.param_groups(optimizer)}

    def ship(
        self, optimizer: torch.optim.Optimizer, average: WeightAverage | None, copier: Copier
    ) -> tuple[Shipment, dict[str, Any]]:
        """Copy this process's pieces for a checkpoint. All processes call this.

        Returns:
            (shipment, content): on rank 0, content has the entry `optimizer`, and `ema` if there is an average. Their
            `StreamedTensor`s take their numbers from the shipment, in the order of the content, `ema` first. On other
            ranks content is empty.
        """
        assert average is None or isinstance(average, ShardedAverage)
        own = self._own_state(optimizer)
        pieces: dict[Place, Tensor] = {}
        spread: dict[Place, Spread] = {}
        if average is not None:
            pieces |= {("ema", name): each for name, each in average.weights().items() if name in average.spread}
            spread |= {("ema", name): self._spread(each) for name, each in average.spread.items()}
        entries = self._entries_of_all(own)
        for number, names in entries.items():
            for name in names:
                if name != STEP:
                    whole_value = self._spread(self.parameters[number])
                    spread["optimizer", number, name] = whole_value
                    if any(rank == self._group.rank for rank, _, _ in whole_value.bounds) and number in own:
                        pieces["optimizer", number, name] = own[number][name]
        shipment = Shipment(spread, copier.copy(pieces), self.channel, self._group.rank)
        if self._group.rank > 0:
            return shipment, {}
        streamed = {place: _stream(shipment, place, each) for place, each in spread.items()}
        state = {
            number: {
                name: torch.tensor(steps) if name == STEP else streamed["optimizer", number, name]
                for name, steps in names.items()
            }
            for number, names in entries.items()
        }
        content: dict[str, Any] = {"optimizer": {"state": state, "param_groups": self.param_groups(optimizer)}}
        if average is not None:
            whole = average.weights()
            weights = {
                name: streamed["ema", name] if name in average.spread else whole[name].detach().cpu().clone()
                for name in average.names
            }
            content = {"ema": {"num_updates": average.num_updates, "weights": weights}, **content}
        return shipment, content

    def _entries_of_all(self, own: Mapping[int, Mapping[str, Any]]) -> dict[int, dict[str, float]]:
        """What the optimizer keeps for each parameter on some process: names, and the number of steps for STEP."""
        named = {
            number: {name: float(value) if name == STEP else 0.0 for name, value in sorted(state.items())}
            for number, state in own.items()
        }
        found: dict[int, dict[str, float]] = {}
        for each in self._group.gather_values(named, "save"):
            found |= each
        return {number: found[number] for number in sorted(found)}

    def _own_state(self, optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
        """The state of what this process steps, flat, by the number of the whole parameter.

        Adagrad has a state for frozen parameters too, before they thaw: each process has all of it.
        """
        pieces = {
            number: self._tree.pieces.get(parameter, parameter) for number, parameter in enumerate(self.parameters)
        }
        return {
            number: {name: value if name == STEP else flat_view(value) for name, value in state.items()}
            for number, piece in pieces.items()
            if piece is not None and (state := optimizer.state.get(piece))
        }

    def _part_of(self, state: Mapping[str, Any], parameter: nn.Parameter) -> dict[str, Any]:
        if parameter not in self._tree.pieces:
            return dict(state)
        return {
            name: self._tree.own_part(value, parameter) if isinstance(value, Tensor) and name != STEP else value
            for name, value in state.items()
        }

    def _spread(self, parameter: nn.Parameter) -> Spread:
        return Spread(tuple(parameter.shape), parameter.stride(), parameter.dtype, self._bounds(parameter))

    def _bounds(self, parameter: nn.Parameter) -> list[tuple[int, int, int]]:
        """Which process gives which part of a parameter's state; rank 0 gives that of a frozen parameter."""
        return self._tree.bounds(parameter) if parameter in self._tree.pieces else [(0, 0, parameter.numel())]


def _join(name: str, parts: Sequence[Mapping[str, Any]], parameter: nn.Parameter) -> Any:
    """An entry for a whole parameter, from the entries for its pieces."""
    if name == STEP:
        return parts[0][name]
    flat = torch.cat([part[name] for part in parts])
    return flat.as_strided(parameter.shape, parameter.stride()).clone()


def _stream(shipment: Shipment, place: Place, spread: Spread) -> StreamedTensor:
    return StreamedTensor(spread.shape, spread.stride, spread.dtype, lambda: shipment.parts(place))
