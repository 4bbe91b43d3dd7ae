"""A trained model, read back from its run folder; what evaluate and predict share."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from signs_dist.checkpointing import tensors as saved
from signs_dist.checkpointing.store import CheckpointStore
from signs_dist.config.reading import load_config
from signs_dist.config.settings import Config
from signs_dist.environment.context import Context
from signs_dist.errors import UserError
from signs_dist.learning.precision import Precision, choose_precision, find_capability
from signs_dist.models import create_model
from signs_dist.models.weights import read_weights
from signs_dist.run_folder.folder import RunFolder
from signs_dist.training.loop import ImagePreparer


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model in eval mode with all that is needed to feed it.

    Attributes:
        folder: the run folder.
        config: the run's config.
        classes: names of the classes by label.
        data: what the manifest says about the data: name, root, fingerprints.
        source: the file that the weights are from.
        model: the network on its device.
        prepare: from batches to the model's input.
        precision: arithmetic of the forward pass.
    """

    folder: RunFolder
    config: Config
    classes: tuple[str, ...]
    data: dict[str, Any]
    source: Path
    model: nn.Module
    prepare: ImagePreparer
    precision: Precision


def open_trained(run_path: Path, which: str, device: torch.device, context: Context) -> TrainedModel:
    """Read a trained model.

    Args:
        run_path: a run folder.
        which: `final` for model.pt, `best` or `last` for a checkpoint, or the path of a file.
        device: where the model goes.
        context: where this process runs.

    Raises:
        UserError: no run folder, no such file, or weights of another model.
    """
    folder = RunFolder.open(run_path)
    config = load_config(folder.config).config
    manifest = _read_manifest(folder)
    classes = tuple(manifest["data"]["classes"])
    source = find_weights(folder, which)
    weights = read_weights(source)
    # The weights in the file replace those that the run began with, so these need not be there any more.
    network = config.model.model_copy(update={"weights": None})
    model = create_model(network, num_classes=len(classes), image_size=config.data.image_size)
    saved.put_weights(model, weights, source)
    layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
    model = model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    threads = context.num_threads if config.train.num_threads == "auto" else config.train.num_threads
    torch.set_num_threads(threads)
    prepare = ImagePreparer.create(config.data, device, channels_last=config.train.channels_last)
    precision = choose_precision(config.train.precision, find_capability(device))
    return TrainedModel(folder, config, classes, manifest["data"], source, model.eval(), prepare, precision)


def find_weights(folder: RunFolder, which: str) -> Path:
    """The file with the weights that `which` names.

    Raises:
        UserError: it is not there.
    """
    store = CheckpointStore(folder.checkpoints, keep=1)
    newest = store.newest() or folder.checkpoints
    named = {"final": folder.model, "best": store.best, "last": newest}
    path = named.get(which, Path(which))
    if path.is_file():
        return path
    if which not in named:
        raise UserError(f"--weights {which}: no such file. It is final, best, last or the path of a file.")
    present = [name for name, file in named.items() if file.is_file()]
    hint = f"Type --weights {present[0]}." if present else "Let the run finish an epoch first."
    wanted = f"{path.relative_to(folder.path)} yet" if path != folder.checkpoints else "checkpoint yet"
    raise UserError(f"{folder.path} has no {wanted}. {hint}")


def _read_manifest(folder: RunFolder) -> dict[str, Any]:
    try:
        manifest = json.loads(folder.manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder.manifest} cannot be read: {error}. It is written when a run starts.") from error
    if (
        not isinstance(manifest, dict)
        or not isinstance(manifest.get("data"), dict)
        or "classes" not in manifest["data"]
    ):
        raise UserError(f"{folder.manifest} does not name the classes of the data. Was it made by signs_dist?")
    return manifest
