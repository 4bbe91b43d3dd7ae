"""The format `torch`: one .pt2 file, which bare torch loads. It resizes and normalises by itself."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram

from signs_dist.exporting.photo_lines import OPEN_PHOTO
from signs_dist.exporting.tracing import trace_whole
from signs_dist.inference.export_files import MODEL_FILES, RECORD_MEMBER
from signs_dist.inference.export_record import ExportRecord
from signs_dist.inference.whole_network import make_whole

FILE = MODEL_FILES["torch"]
IS_INSIDE = True


def require(given: str) -> None:
    """Nothing beside torch is needed."""


def packages(record: ExportRecord) -> tuple[str, ...]:
    """The modules that its lines import."""
    return ("torch",)


def write(folder: Path, network: nn.Module, record: ExportRecord) -> None:
    """Write model.pt2. Raises `UserError` if torch.export cannot trace the network, and OSError."""
    program = trace_whole(make_whole(network, record).eval(), record.network)
    (folder / FILE).write_bytes(program_bytes(program, {RECORD_MEMBER: record.to_json()}))


def program_bytes(program: ExportedProgram, members: dict[str, str]) -> bytes:
    """The bytes of a .pt2 file, with texts beside the graph.

    It is made in memory: torch's own writer reports a full disk as something else.
    """
    buffer = io.BytesIO()
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names paths of this machine
    torch.export.save(program, buffer, extra_files=members)
    return buffer.getvalue()


def load_lines(record: ExportRecord, folder: Path) -> list[str]:
    """The lines that load it."""
    return ["import torch", f'model = torch.export.load("{FILE}").module()']


def use_lines(record: ExportRecord) -> list[str]:
    """The lines from photo.jpg to `probabilities`."""
    return [
        *OPEN_PHOTO,
        "with torch.inference_mode():",
        "    logits, probabilities = model(torch.from_numpy(numpy.array(photo))[None])",
    ]


def classify_lines(record: ExportRecord) -> list[str]:
    """The lines that define `classify`."""
    return [
        "def classify(images):",
        "    with torch.inference_mode():",
        "        return model(torch.from_numpy(images))[1].numpy()",
    ]
