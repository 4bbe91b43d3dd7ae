"""The format `safetensors`: the weights alone, and a config.json that says what they are of.

A network of timm is in the form of timm's hub. One of torchvision is built by its name. For a network of this project,
and for the user's own, its graph lies beside the weights, so that bare torch computes it; where the user's network
cannot be traced, its class is needed.
"""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.exporting.machine_paths import names_of_paths
from signs_dist.exporting.photo_lines import OPEN_PHOTO
from signs_dist.exporting.torch_file import program_bytes
from signs_dist.exporting.tracing import trace_network
from signs_dist.extras import require_extra
from signs_dist.inference.export_files import CONFIG_FILE, GRAPH_FILE, MODEL_FILES, RECORD_KEY
from signs_dist.inference.export_record import ExportRecord
from signs_dist.models import torchvision_models
from signs_dist.models.create import TORCHVISION_PREFIX, is_shipped

FILE = MODEL_FILES["safetensors"]
IS_INSIDE = False
TIMM_PREFIX = "timm:"


def require(given: str) -> None:
    """Raise `UserError` where safetensors is missing; `given` begins the message."""
    require_extra("safetensors", "safetensors", given)


def packages(record: ExportRecord) -> tuple[str, ...]:
    """The modules that its lines import."""
    if record.network.startswith(TIMM_PREFIX):
        return ("torch", "timm")
    if record.network.startswith(TORCHVISION_PREFIX):
        return ("torch", "torchvision", "safetensors")
    return ("torch", "safetensors")


def write(folder: Path, network: nn.Module, record: ExportRecord) -> None:
    """Write model.safetensors and config.json, and architecture.pt2 where no library has the network.

    With architecture.pt2 nobody calls the network's class: then paths in its arguments are not written.

    Raises:
        OSError: a file cannot be written.
    """
    import safetensors.torch

    if not record.network.startswith((TIMM_PREFIX, TORCHVISION_PREFIX)) and _write_graph(folder, network, record):
        record = record.model_copy(update={"network_args": names_of_paths(record.network_args)})
    # Clones: two names may share their memory, which this format does not have.
    weights: dict[str, Tensor] = {name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}
    metadata = {"format": "pt", RECORD_KEY: record.to_json()}
    (folder / FILE).write_bytes(safetensors.torch.save(weights, metadata))
    config = _timm_config(network, record) if record.network.startswith(TIMM_PREFIX) else _config(record)
    config[RECORD_KEY] = json.loads(record.to_json())
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_graph(folder: Path, network: nn.Module, record: ExportRecord) -> bool:
    """Write architecture.pt2. Returns False where the user's network cannot be traced."""
    try:
        program = trace_network(network, record.preprocessing.image_size, record.network)
    except UserError:
        if is_shipped(record.network):
            raise
        return False  # the user's class is needed: `load_lines` imports it
    (folder / GRAPH_FILE).write_bytes(program_bytes(program, {}))
    return True


def _config(record: ExportRecord) -> dict[str, Any]:
    return {
        "architecture": record.network,
        "num_classes": len(record.classes),
        "label_names": list(record.classes),
        "model_args": record.network_args,
    }


def _timm_config(network: nn.Module, record: ExportRecord) -> dict[str, Any]:
    """The config.json of timm's hub, which `timm.create_model("local-dir:…")` and `hf-hub:` read.

    (timm, models/_hub.py: save_config_for_hf.)
    """
    of_network: dict[str, Any] = dict(network.pretrained_cfg)  # type: ignore[arg-type]
    preprocessing, size = record.preprocessing, record.preprocessing.image_size
    is_fixed = bool(of_network.get("fixed_input_size"))
    return _config(record) | {
        "architecture": record.network.removeprefix(TIMM_PREFIX),
        "num_features": network.num_features,
        "model_args": record.network_args | ({"img_size": size} if is_fixed else {}),
        "pretrained_cfg": {
            "num_classes": len(record.classes),
            "input_size": [3, size, size],
            "fixed_input_size": is_fixed,
            "pool_size": None,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "first_conv": of_network.get("first_conv"),
            "classifier": of_network.get("classifier"),
        },
    }


def load_lines(record: ExportRecord, folder: Path) -> list[str]:
    """The lines that load it."""
    if record.network.startswith(TIMM_PREFIX):
        return [
            "import timm, timm.data, torch",
            'network = timm.create_model("local-dir:.", pretrained=True).eval()',
            "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))",
        ]
    load = f'network.load_state_dict(safetensors.torch.load_file("{FILE}"))'
    if record.network.startswith(TORCHVISION_PREFIX):
        name = record.network.removeprefix(TORCHVISION_PREFIX)
        arguments = torchvision_models.constructor_arguments(
            name, len(record.classes), record.preprocessing.image_size, record.network_args
        )
        return [
            "import safetensors.torch, torch, torchvision",
            f"network = torchvision.models.get_model({_call(name, arguments)}).eval()",
            load,
        ]
    if (folder / GRAPH_FILE).is_file():
        return ["import safetensors.torch, torch", f'network = torch.export.load("{GRAPH_FILE}").module()', load]
    module, _, name = record.network.replace(":", ".").rpartition(".")
    own_class = getattr(importlib.import_module(module), name)
    takes_size = "image_size" in inspect.signature(own_class).parameters
    sizes = {"image_size": record.preprocessing.image_size} if takes_size else {}
    arguments = {"num_classes": len(record.classes)} | sizes | record.network_args
    return [
        "import safetensors.torch, torch",
        f"from {module} import {name}",
        f"network = {name}({_call(None, arguments)}).eval()",
        load,
    ]


def _call(first: str | None, arguments: dict[str, Any]) -> str:
    """The arguments of a call, as Python."""
    named = [f"{name}={value!r}" for name, value in arguments.items()]
    return ", ".join([*([repr(first).replace("'", '"')] if first is not None else []), *named])


def _prepare_lines(record: ExportRecord) -> list[str]:
    """The lines from `photo` to `inputs`."""
    if record.network.startswith(TIMM_PREFIX):
        return ["inputs = transform(photo)[None]"]
    preprocessing = record.preprocessing
    size, mean, std = preprocessing.image_size, list(preprocessing.mean), list(preprocessing.std)
    return [
        f"photo = photo.resize(({size}, {size}), PIL.Image.Resampling.BICUBIC)",
        "pixels = torch.from_numpy(numpy.array(photo)).permute(2, 0, 1) / 255",
        f"inputs = ((pixels - torch.tensor({mean})[:, None, None]) / torch.tensor({std})[:, None, None])[None]",
    ]


def _result_lines(record: ExportRecord) -> list[str]:
    """The lines from `inputs` to `probabilities`."""
    average = "logits = (network(inputs) + network(inputs.flip(3))) / 2"
    return [
        "with torch.inference_mode():",
        f"    {average if record.flip_average else 'logits = network(inputs)'}",
        "probabilities = logits.softmax(dim=1)",
    ]


def use_lines(record: ExportRecord) -> list[str]:
    """The lines from photo.jpg to `probabilities`."""
    return [
        *OPEN_PHOTO,
        *_prepare_lines(record),
        *_result_lines(record),
    ]


def classify_lines(record: ExportRecord) -> list[str]:
    """The lines that define `classify`."""
    each = [*_prepare_lines(record), *_result_lines(record), "found.append(probabilities)"]
    return [
        "import PIL.Image",
        "def classify(images):",
        "    found = []",
        "    for photo in map(PIL.Image.fromarray, images):",
        *(f"        {line}" for line in each),
        "    return torch.cat(found).numpy()",
    ]
