"""Decides whether a training step becomes a CUDA graph, how much of it, and why not. Pure functions.

Source: PyTorch, "CUDA semantics", section "CUDA Graphs": its constraints, its use with float16 and with
DistributedDataParallel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from signs_dist.config.dotted_names import is_dotted
from signs_dist.config.settings import Config
from signs_dist.errors import UserError
from signs_dist.models.compiling import OWN_GRAPHS

Covers = Literal["step", "passes", "nothing"]
FUSED = ("sgd", "adam", "adamw")
"""Optimizers whose step on a GPU reads all that changes from tensors there."""
_WHOLE = "forward, loss, backward, optimizer"
_PASSES = "forward, loss, backward"


@dataclasses.dataclass(frozen=True)
class StepFacts:
    """What decides whether a training step can be a CUDA graph.

    Attributes:
        wanted: train.graph.
        device_type: of the model.
        num_processes: of the run.
        num_replicas: GPUs of one process, with --dp.
        exact: whether exact mode is on.
        optimizer: optim.name.
        averages: whether a moving average of the weights is kept.
        compile: train.compile.
        recomputes: model.gradient_checkpointing.
        own_code: settings that name code of the user's own within the step, as they are typed.
        checks: check.recompute_every.
    """

    wanted: bool | Literal["auto"]
    device_type: str
    num_processes: int = 1
    num_replicas: int = 1
    exact: bool = False
    optimizer: str = "adam"
    averages: bool = False
    compile: bool | str = False
    recomputes: bool = False
    own_code: Sequence[str] = ()
    checks: int | None = None

    @classmethod
    def of(cls, config: Config, *, device_type: str, num_processes: int, num_replicas: int) -> StepFacts:
        """From a config, and from where it runs."""
        names = {"model.name": config.model.name, "loss.name": config.loss.name, "optim.name": config.optim.name}
        return cls(
            wanted=config.train.graph,
            device_type=device_type,
            num_processes=num_processes,
            num_replicas=num_replicas,
            exact=config.exact,
            optimizer=config.optim.name,
            averages=config.ema.decay is not None,
            compile=config.train.compile,
            recomputes=config.model.gradient_checkpointing,
            own_code=tuple(f"{key}={name}" for key, name in names.items() if is_dotted(name)),
            checks=config.check.recompute_every,
        )


@dataclasses.dataclass(frozen=True)
class GraphChoice:
    """How much of a training step is a CUDA graph.

    Attributes:
        covers: step: all five steps of training, and the moving average. passes: forward, loss and backward of each
            micro-batch, and their sum; the optimizer runs step by step. nothing: no graph.
        why: why it is not more; "" for the whole step.
        is_required: whether a step that cannot be captured is an error, as with train.graph=true.
        averages: whether a moving average of the weights is kept.
    """

    covers: Covers
    why: str = ""
    is_required: bool = False
    averages: bool = False

    def describe(self) -> str:
        """What to tell about it, such as `one CUDA graph: forward, loss, backward, optimizer`."""
        if self.covers == "nothing":
            return f"no CUDA graph: {self.why}"
        if self.covers == "step":
            return f"one CUDA graph: {_WHOLE}{', moving average' if self.averages else ''}"
        return f"a CUDA graph of {_PASSES}; the optimizer beside it: {self.why}"


NO_GRAPH = GraphChoice("nothing", "train.graph=false")


def choose_graph(facts: StepFacts) -> GraphChoice:
    """How much of the training step to make a CUDA graph.

    Raises:
        UserError: train.graph is true, and there can be none.
    """
    if facts.wanted is False:
        return NO_GRAPH
    if why := _why_none(facts):
        if facts.wanted is True:
            raise UserError(f"train.graph=true: {why}. Type train.graph=auto or train.graph=false.")
        return GraphChoice("nothing", why)
    required = facts.wanted is True
    if facts.own_code and not required:
        why = f"{facts.own_code[0]} may read numbers that a graph would not read again; if not, type train.graph=true"
        return GraphChoice("nothing", why)
    if facts.exact:
        # A learning rate in a graph is a float32 on the device, and elsewhere a number of double precision.
        why = "exact mode gives it the learning rate that it has on several processes"
        return GraphChoice("passes", why, required, facts.averages)
    if facts.optimizer not in FUSED:
        why = f"optim.name={facts.optimizer} reads numbers of the host"
        return GraphChoice("passes", why, required, facts.averages)
    return GraphChoice("step", "", required, facts.averages)


def _why_none(facts: StepFacts) -> str:
    """Why the step can be no CUDA graph at all; "" if it can."""
    if facts.device_type != "cuda":
        return "it needs a GPU"
    if facts.num_replicas > 1:
        return "--dp runs its GPUs from threads, which no graph records"
    if facts.num_processes > 1:
        return (
            "PyTorch records sums over several processes only without NCCL's error handling, by which a run notices a "
            "lost process"
        )
    if facts.compile in OWN_GRAPHS:
        return f"train.compile={facts.compile} makes CUDA graphs of its own"
    if facts.recomputes:
        return "model.gradient_checkpointing=true restores torch's generator, which no graph records"
    if facts.checks is not None:
        return f"check.recompute_every={facts.checks} looks at the gradients of single micro-batches"
    return ""
