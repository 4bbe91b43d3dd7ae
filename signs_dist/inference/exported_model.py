"""An exported model, read back: ONNX, torch.export's .pt2, or safetensors with its config.json."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.config.settings import ModelConfig
from signs_dist.errors import UserError
from signs_dist.extras import require_extra
from signs_dist.files import find_other_kind
from signs_dist.inference.export_files import CONFIG_FILE, GRAPH_FILE, RECORD_KEY, RECORD_MEMBER, ExportPlace, Format
from signs_dist.inference.export_record import ExportRecord, read_record
from signs_dist.inference.quiet import quiet_torch
from signs_dist.inference.whole_network import make_whole
from signs_dist.models import create_model

Run = Callable[[Tensor], Tensor]
"""From uint8 images [N, S, S, 3] on the CPU to logits float32 [N, C]."""


@dataclasses.dataclass(frozen=True)
class ModuleRun:
    """A `Run` of a module that gives (logits, probabilities).

    Attributes:
        module: on its device, in eval mode.
        device: the device.
    """

    module: nn.Module
    device: torch.device

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """The logits."""
        logits, _ = self.module(images.to(self.device))
        found: Tensor = logits.float()
        return found


@dataclasses.dataclass(frozen=True)
class ExportedModel:
    """An exported model, with its classes.

    Attributes:
        source: the file of the weights.
        record: what the export says about itself.
        device: where it computes.
        run: computes logits.
        notes: what a person should know.
    """

    source: Path
    record: ExportRecord
    device: torch.device
    run: Run
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes by label."""
        return self.record.classes

    @property
    def image_size(self) -> int:
        """Side in pixels of the square images that `__call__` takes."""
        return self.record.preprocessing.image_size

    @property
    def batch(self) -> int:
        """Images per forward pass, where nothing else is asked for."""
        return self.record.batch

    @property
    def max_megapixels(self) -> float:
        """Larger photos are refused, where nothing else is asked for."""
        return self.record.max_megapixels

    @property
    def trained_on(self) -> str:
        """The name of the data set."""
        return self.record.trained_on

    def __call__(self, images: Tensor) -> Tensor:
        """The logits of images.

        Args:
            images: uint8 [B, 3, S, S] in 0..255 on any device; S is `image_size`.

        Returns:
            float32 [B, C]. With `evaluate.flip_average` of the run, the mean over each image and its mirror.

        Raises:
            ValueError: the images have another shape or dtype.
        """
        size = self.image_size
        if images.dtype != torch.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise ValueError(
                f"the model takes uint8 images [B, 3, {size}, {size}], not {images.dtype} {list(images.shape)}."
            )
        return self.run(images.permute(0, 2, 3, 1).cpu())


def read_exported_model(place: ExportPlace, device: torch.device) -> ExportedModel:
    """Read an export.

    Args:
        place: where it lies.
        device: where it is to compute. ONNX computes on a GPU where onnxruntime-gpu is installed, else on the CPU.

    Raises:
        UserError: a file is broken, was not written by `export`, or needs a package that is not installed.
    """
    if kind := find_other_kind(place.file):
        raise UserError(f"{place.file} cannot be read: it is {kind}, not a file.")
    record, run = _READERS[place.format](place.file, device)
    return ExportedModel(place.file, record, device, run)


def _read_onnx(file: Path, device: torch.device) -> tuple[ExportRecord, Run]:
    require_extra("onnx", "onnxruntime", str(file))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    with _told_as_broken(file, "onnxruntime"):
        session = onnxruntime.InferenceSession(file, options, providers=[*providers, "CPUExecutionProvider"])
    record = read_record(session.get_modelmeta().custom_metadata_map.get(RECORD_KEY), file)

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])

    return record, run


def _read_torch(file: Path, device: torch.device) -> tuple[ExportRecord, Run]:
    members: dict[str, Any] = {RECORD_MEMBER: ""}
    network = load_graph(file, device, members)
    record = read_record(members[RECORD_MEMBER], file)
    return record, ModuleRun(network, device)


def _read_safetensors(file: Path, device: torch.device) -> tuple[ExportRecord, Run]:
    require_extra("safetensors", "safetensors", str(file))
    import safetensors.torch

    config = file.with_name(CONFIG_FILE)
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{config}, which says what {file.name} is of, cannot be read: {error}.") from error
    text = content.get(RECORD_KEY) if isinstance(content, dict) else None
    record = read_record(json.dumps(text) if text else None, config)
    with _told_as_broken(file, "safetensors"):
        weights = safetensors.torch.load_file(file)
    graph = file.with_name(GRAPH_FILE)
    network = load_graph(graph, device) if graph.is_file() else _make_network(record)
    with _told_as_broken(file, record.network):
        network.load_state_dict(weights)
    whole = make_whole(network, record)
    # The module of a graph refuses eval(); the graph is of eval mode.
    return record, ModuleRun((whole if graph.is_file() else whole.eval()).to(device), device)


def _make_network(record: ExportRecord) -> nn.Module:
    """The network that the record names, from its library or from the user's own code."""
    settings = ModelConfig(name=record.network, args=record.network_args)
    with torch.random.fork_rng(devices=()):  # initial weights are random; the caller's generator is restored
        return create_model(settings, num_classes=len(record.classes), image_size=record.preprocessing.image_size)


def load_graph(file: Path, device: torch.device, members: dict[str, Any] | None = None) -> nn.Module:
    """The module in a .pt2 file. `members` gets the texts of the named members of the file.

    Raises:
        UserError: the file is broken.
    """
    with _told_as_broken(file, "torch.export.load"), quiet_torch():
        program = torch.export.load(file, extra_files=members)
        if device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        return program.module()


@contextlib.contextmanager
def _told_as_broken(file: Path, reader: str) -> Iterator[None]:
    """Turn what a library raises on a file into a `UserError`."""
    try:
        yield
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        text = str(error).strip().splitlines()
        reason = text[0].rstrip(".") if text else type(error).__name__
        raise UserError(f"{file} cannot be read by {reader}: {reason}. Export the run again.") from error


_READERS: dict[Format, Callable[[Path, torch.device], tuple[ExportRecord, Run]]] = {
    "onnx": _read_onnx,
    "torch": _read_torch,
    "safetensors": _read_safetensors,
}
