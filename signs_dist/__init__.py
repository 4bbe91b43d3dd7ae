"""Train image classifiers with one command and one config, from a laptop CPU to a SLURM cluster.

The names below are the public API. Each is imported when it is used first, so `import signs_dist` takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from signs_dist.checkpointing.store import CheckpointStore as CheckpointStore
    from signs_dist.checkpointing.tensors import weights_sha256 as weights_sha256
    from signs_dist.config.reading import load_config as load_config
    from signs_dist.data.dataset import SignsDataset as SignsDataset
    from signs_dist.data.plan import EpochPlan as EpochPlan
    from signs_dist.data.plan_loader import plan_loader as plan_loader
    from signs_dist.data.samplers import PlanSampler as PlanSampler
    from signs_dist.distributed.connect import connect as connect
    from signs_dist.distributed.exact_step import ExactStep as ExactStep
    from signs_dist.inference.scoring import score as score
    from signs_dist.inference.trained_model import load_model as load_model
    from signs_dist.monitoring.signals import StopRequest as StopRequest
    from signs_dist.training.fit import fit as fit

__version__ = "0.1.0.dev0"

_HOMES = {
    "load_config": "signs_dist.config.reading",
    "fit": "signs_dist.training.fit",
    "load_model": "signs_dist.inference.trained_model",
    "score": "signs_dist.inference.scoring",
    "connect": "signs_dist.distributed.connect",
    "SignsDataset": "signs_dist.data.dataset",
    "EpochPlan": "signs_dist.data.plan",
    "plan_loader": "signs_dist.data.plan_loader",
    "PlanSampler": "signs_dist.data.samplers",
    "ExactStep": "signs_dist.distributed.exact_step",
    "CheckpointStore": "signs_dist.checkpointing.store",
    "StopRequest": "signs_dist.monitoring.signals",
    "weights_sha256": "signs_dist.checkpointing.tensors",
}
"""Public name → the module that has it. To add a name, add it here, above and to `__all__`."""

__all__ = [
    "CheckpointStore",
    "EpochPlan",
    "ExactStep",
    "PlanSampler",
    "SignsDataset",
    "StopRequest",
    "connect",
    "fit",
    "load_config",
    "load_model",
    "plan_loader",
    "score",
    "weights_sha256",
]


def __getattr__(name: str) -> Any:
    """A public name, imported when it is used first."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(["__version__", *__all__])
