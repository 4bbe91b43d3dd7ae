"""A network as a graph that no code of ours is needed for, by torch.export."""

from __future__ import annotations

import linecache
import re
import traceback
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from signs_dist.errors import UserError
from signs_dist.inference.quiet import quiet_torch
from signs_dist.inference.whole_network import WholeNetwork
from signs_dist.monitoring.diagnosis import find_place

NUM_TRACED = 2
"""Images of the traced batch. Any number may follow."""


def trace_whole(whole: WholeNetwork, name: str) -> ExportedProgram:
    """The graph from uint8 images [N, H, W, 3] to (logits, probabilities); N, H and W are free.

    Args:
        whole: in eval mode, on the CPU.
        name: `model.name`, for messages.

    Raises:
        UserError: torch.export cannot trace the network.
    """
    size = whole.image_size
    images = torch.zeros(NUM_TRACED, size + 3, size + 5, 3, dtype=torch.uint8)  # sizes that the network does not have
    return _trace(whole, images, {0: Dim("batch"), 1: Dim("height"), 2: Dim("width")}, name)


def trace_network(network: nn.Module, image_size: int, name: str) -> ExportedProgram:
    """The graph from float32 images [N, 3, S, S] to logits; N is free. Arguments and errors as `trace_whole`."""
    return _trace(network, torch.zeros(NUM_TRACED, 3, image_size, image_size), {0: Dim("batch")}, name)


def _trace(module: nn.Module, images: Tensor, free: dict[int, Any], name: str) -> ExportedProgram:
    try:
        with quiet_torch(), torch.no_grad():
            return torch.export.export(module, (images,), dynamic_shapes=(free,), strict=False)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch.export raises whatever the network's own code meets
        raise UserError(describe_failure(error, name)) from error


def describe_failure(error: Exception, name: str) -> str:
    """What torch.export could not trace, where, and what else can be done."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Below the title that a free size is not free stands which one, and what it was taken for.
    details = [line.lstrip("- ") for line in lines if lines[0].startswith("Constraints violated") and line[0] == "-"]
    reason = (details or lines or [type(error).__name__])[0]
    reason = re.sub(r"\s+", " ", reason).rstrip(".")
    place, code = find_place(error), ""
    if place.startswith("signs_dist/") and "/models/" not in place:
        place = ""  # of this project's own call
    if place:
        code = _line_of_code(error, place)
    found_at = f"{f', at {place}' if place else ''}{f': `{code}`' if code else ''}"
    return (
        f"torch.export cannot trace model.name={name}: {type(error).__name__}: {reason}{found_at}. Its graph must be "
        f"the same for all images: no if, loop or .item() that depends on their values, and no batch size of its own. "
        f"Change this line, or type --format safetensors, which holds the weights without a graph."
    )


def _line_of_code(error: Exception, place: str) -> str:
    """The source line that `find_place` names."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if f":{frame.lineno} in {frame.name}" in place:
            return linecache.getline(frame.filename, frame.lineno or 0).strip()
    return ""
