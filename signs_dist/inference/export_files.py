"""The files of an export, and finding them. Nothing is imported that takes long."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from signs_dist.errors import UserError
from signs_dist.run_folder.folder import RunFolder

Format = Literal["safetensors", "onnx", "torch"]
MODEL_FILES: dict[Format, str] = {
    "onnx": "model.onnx",
    "torch": "model.pt2",
    "safetensors": "model.safetensors",
}
"""Format → the file of an export's folder that holds the weights."""
CONFIG_FILE = "config.json"
"""Beside model.safetensors: the network, in the form of timm's hub, and the record of the export."""
GRAPH_FILE = "architecture.pt2"
"""Beside model.safetensors, for a network that no library has: what it computes, for torch.export.load."""
CARD_FILE = "README.md"
"""The model card."""
RECORD_KEY = "signs_dist"
"""Where a file's metadata hold the record of the export."""
RECORD_MEMBER = "signs_dist.json"
"""The same as a member of a .pt2 file."""


@dataclasses.dataclass(frozen=True)
class ExportPlace:
    """Where an export lies.

    Attributes:
        format: its format.
        file: the file of its weights.
    """

    format: Format
    file: Path


def find_export(path: Path) -> ExportPlace | None:
    """The export at `path`: a folder that `export` wrote, or its file alone; None for a run folder and all else."""
    if path.is_file():
        found = [form for form, name in MODEL_FILES.items() if path.suffix.lower() == Path(name).suffix]
        return ExportPlace(found[0], path) if found else None
    if not path.is_dir() or RunFolder(path).is_begun:
        return None
    return next((ExportPlace(form, path / name) for form, name in MODEL_FILES.items() if (path / name).is_file()), None)


def require_model(path: Path) -> ExportPlace | None:
    """The export at `path`, None for a run folder.

    Raises:
        UserError: it is neither.
    """
    found = find_export(path)
    if found is not None:
        return found
    if path.is_dir() and not RunFolder(path).config.exists():
        *most, last = MODEL_FILES.values()
        raise UserError(
            f"{path} is not a run folder: it has no config.yaml; and no export: it has no {', '.join(most)} or {last}. "
            f"To make a run under runs/, type: python -m signs_dist.train"
        )
    RunFolder.open(path)
    return None
