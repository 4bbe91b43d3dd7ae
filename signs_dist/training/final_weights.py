"""The weights that model.pt holds: those after the last epoch, or those of the best epoch."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from torch import Tensor

from signs_dist.checkpointing import tensors
from signs_dist.checkpointing.store import CheckpointStore, Cursor, read_checkpoint
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.errors import CheckpointError, UserError
from signs_dist.training.run_state import RunState
from signs_dist.training.stepper import Stepper

Kind = Literal["last", "best"]


@dataclasses.dataclass(frozen=True)
class FinalWeights:
    """Which weights model.pt holds.

    Attributes:
        kind: `train.final_weights`.
        epoch: at whose end they were, from 1.
        steps: number of steps that they were trained.
    """

    kind: Kind
    epoch: int
    steps: int

    @classmethod
    def choose(cls, kind: Kind, run_state: RunState, num_steps: int) -> FinalWeights:
        """The final weights of a run that is trained to its end; `num_steps` are the steps of an epoch."""
        if kind == "last":
            return cls(kind, run_state.epoch, run_state.steps_done)
        assert run_state.best is not None
        return cls(kind, run_state.best.epoch, run_state.best.epoch * num_steps)


def load_best_weights(final: FinalWeights, stepper: Stepper, store: CheckpointStore, strategy: SingleProcess) -> None:
    """Load the weights of the best epoch, which were evaluated, into the model and its average, on all processes.

    Args:
        final: of the best epoch.
        stepper: whose model and average are loaded. It trains no further.
        store: the checkpoints of the run. No save is in progress.
        strategy: how processes share the run.

    Raises:
        UserError: best.pt is broken, is missing, or is of another epoch.
    """
    strategy.gather_values(None, "wait for the save")  # rank 0 has waited for its own
    strategy.all_succeed(lambda: _load(final, stepper, store), "load the best weights")


def _load(final: FinalWeights, stepper: Stepper, store: CheckpointStore) -> None:
    try:
        content = read_checkpoint(store.best)
        place = Cursor(**content["cursor"])
        fault = "" if place == Cursor(final.epoch, 0) else f"{store.best} holds {place}."
    except CheckpointError as error:
        fault = str(error)
    if fault:
        raise UserError(
            f"train.final_weights=best needs the checkpoint of epoch {final.epoch}, the best: {fault} To finish with "
            f"the last weights, repeat the command with train.final_weights=last --accept-change train.final_weights"
        )
    put_evaluated_weights(content, stepper, store)


def put_evaluated_weights(content: dict[str, Any], stepper: Stepper, store: CheckpointStore) -> None:
    """Load the weights of a checkpoint that an evaluation used: the average if there was one, else the model's."""
    state, ema = stepper.state, content["ema"]
    weights = ema["weights"] if ema is not None else content["model"]
    tensors.put_weights(state.model, weights, store.best)
    if state.average is not None:
        num_updates = ema["num_updates"] if ema is not None else 0
        state.average.load_state_dict({"num_updates": num_updates, "weights": weights})


def final_weights(stepper: Stepper) -> dict[str, Tensor]:
    """The weights for model.pt, on the CPU: the moving average if it is on, else the model's own."""
    average = stepper.state.average
    if average is None:
        return tensors.plain_weights(stepper.state.model)
    with average.swapped_into(stepper.state.model):
        return tensors.plain_weights(stepper.state.model)
