"""The format `onnx`: one .onnx file, which onnxruntime runs. It resizes and normalises by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from signs_dist.errors import UserError
from signs_dist.exporting.photo_lines import OPEN_PHOTO
from signs_dist.exporting.tracing import trace_whole
from signs_dist.extras import require_extra
from signs_dist.inference.export_files import MODEL_FILES, RECORD_KEY
from signs_dist.inference.export_record import ExportRecord
from signs_dist.inference.quiet import quiet_torch
from signs_dist.inference.whole_network import make_whole

FILE = MODEL_FILES["onnx"]
IS_INSIDE = True
MOST_BYTES = 2**31 - 2**20
"""A file of ONNX is one message of protobuf, which ends at 2 GiB."""


def require(given: str) -> None:
    """Raise `UserError` where a package of the extra `onnx` is missing; `given` begins the message."""
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require_extra("onnx", module, given)


def packages(record: ExportRecord) -> tuple[str, ...]:
    """The modules that its lines import."""
    return ("onnxruntime",)


def write(folder: Path, network: nn.Module, record: ExportRecord) -> None:
    """Write model.onnx: input `images`, uint8 [batch, height, width, 3]; outputs `logits` and `probabilities`.

    Raises:
        UserError: torch.export cannot trace the network, ONNX has no operator for a part of it, or it is too large.
        OSError: the file cannot be written.
    """
    num_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
    if num_bytes > MOST_BYTES:
        raise UserError(
            f"a file of ONNX holds up to 2 GiB, and the weights take {num_bytes:,} bytes. Type --format torch."
        )
    program = trace_whole(make_whole(network, record).eval(), record.network)
    try:
        with quiet_torch():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                dynamic_shapes={"images": {0: "batch", 1: "height", 2: "width"}},
                input_names=["images"],
                output_names=["logits", "probabilities"],
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise UserError(
            f"torch.onnx.export cannot write model.name={record.network}: {_first_cause(error)}. "
            f"Type --format torch, or --format safetensors."
        ) from error
    assert exported is not None
    _clear_paths(exported.model)
    exported.model.metadata_props.update(
        {
            RECORD_KEY: record.to_json(),
            "classes": json.dumps(record.classes, ensure_ascii=False),
            "preprocessing": record.preprocessing.model_dump_json(),
        }
    )
    (folder / FILE).write_bytes(exported.model_proto.SerializeToString())


def _first_cause(error: BaseException) -> str:
    """The innermost cause of an error of the exporter, in a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def _clear_paths(model: Any) -> None:
    """Remove what the exporter notes at each node, such as the paths of the code on this machine."""
    for graph in [model.graph, *(function.graph for function in model.functions.values())]:
        graph.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            for value in node.outputs:
                value.metadata_props.clear()


def load_lines(record: ExportRecord, folder: Path) -> list[str]:
    """The lines that load it."""
    return ["import onnxruntime", f'session = onnxruntime.InferenceSession("{FILE}")']


def use_lines(record: ExportRecord) -> list[str]:
    """The lines from photo.jpg to `probabilities`."""
    return [
        *OPEN_PHOTO,
        'logits, probabilities = session.run(None, {"images": numpy.array(photo)[None]})',
    ]


def classify_lines(record: ExportRecord) -> list[str]:
    """The lines that define `classify`."""
    return ["def classify(images):", '    return session.run(["probabilities"], {"images": images})[0]']
