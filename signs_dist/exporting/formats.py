"""The formats of an export: a file of this room for each, with the same verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import nn

from signs_dist.exporting import onnx_file, safetensors_folder, torch_file
from signs_dist.inference.export_files import Format
from signs_dist.inference.export_record import ExportRecord


class ExportFormat(Protocol):
    """The verbs of a format.

    Attributes:
        IS_INSIDE: whether the file itself resizes, normalises, and averages over mirrors.
    """

    IS_INSIDE: bool

    def require(self, given: str) -> None:
        """Raise `UserError` where a package that writes or checks it is missing; `given` begins the message."""

    def packages(self, record: ExportRecord) -> tuple[str, ...]:
        """The modules that the lines of Python below import, besides numpy and Pillow."""

    def write(self, folder: Path, network: nn.Module, record: ExportRecord) -> None:
        """Write the files. The network is in eval mode, on the CPU, in float32.

        Raises:
            UserError: the network cannot be written in this format.
            OSError: a file cannot be written.
        """

    def load_lines(self, record: ExportRecord, folder: Path) -> list[str]:
        """Lines of Python that load it, run in its folder, which is written."""

    def use_lines(self, record: ExportRecord) -> list[str]:
        """The lines after them: from photo.jpg to `probabilities` [1, C]."""

    def classify_lines(self, record: ExportRecord) -> list[str]:
        """Lines after `load_lines`, for the check: `classify`, from uint8 [N, H, W, 3] to probabilities [N, C]."""


FORMATS: dict[Format, ExportFormat] = {
    "safetensors": safetensors_folder,
    "onnx": onnx_file,
    "torch": torch_file,
}
