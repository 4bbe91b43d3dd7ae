"""Importing what a training imports, before its processes are forked.

An import here starts no thread and opens no GPU: a process that has either must not be forked. Each is harmless for a
run that does not need it.
"""

from __future__ import annotations

import importlib

from signs_dist.config.settings import Config
from signs_dist.models.create import TORCHVISION_PREFIX
from signs_dist.models.timm_models import TIMM_PREFIX

MODULES = (
    "signs_dist.training.start",
    "signs_dist.data.workers",
    "concurrent.futures.process",
    "PIL.Image",
    "PIL.ImageOps",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "filelock",
    "torch.utils.serialization",
)
"""What every training imports until its first step."""


def import_for(config: Config | None) -> None:
    """Import `MODULES`, and the library of the config's network.

    Args:
        config: of the run; None if it is not known.

    Raises:
        ImportError: a module is missing.
    """
    for name in (*MODULES, *libraries_of(config)):
        importlib.import_module(name)


def libraries_of(config: Config | None) -> tuple[str, ...]:
    """The library of the config's network, if it is not one of this project."""
    prefixes = {TORCHVISION_PREFIX: "torchvision", TIMM_PREFIX: "timm"}
    return tuple(name for prefix, name in prefixes.items() if config and config.model.name.startswith(prefix))
