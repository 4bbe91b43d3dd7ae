"""A trained model, read from its run folder or from an export of it."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.checkpointing import tensors
from signs_dist.checkpointing.content import require_whole
from signs_dist.checkpointing.store import CheckpointStore
from signs_dist.config.reading import load_saved_config
from signs_dist.config.settings import Config, TrainConfig
from signs_dist.data.batches import Batch
from signs_dist.distributed.device_choice import choose_device
from signs_dist.environment.allocator import keep_freed_memory
from signs_dist.environment.context import Context, read_context
from signs_dist.errors import CheckpointError, UserError, in_python_words
from signs_dist.files import find_other_kind
from signs_dist.inference.export_files import require_model
from signs_dist.inference.exported_model import ExportedModel, read_exported_model
from signs_dist.learning.precision import Precision, choose_precision, find_capability
from signs_dist.models import create_model
from signs_dist.models.archive_members import MAX_PICKLE_BYTES
from signs_dist.models.outputs import require_logits
from signs_dist.models.weights import read_plain, weights_in
from signs_dist.run_folder.digest import digest_path, find_damage
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.manifest import changed_files, imported_files
from signs_dist.run_folder.suspects import read_suspicion
from signs_dist.training.image_preparer import ImagePreparer
from signs_dist.training.loop import predict_logits


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained network in eval mode, with its classes and the preparation of its input.

    Attributes:
        folder: the run folder.
        config: the run's config.
        classes: the names of the classes by label.
        data: the manifest's entry on the data: name, root, fingerprints.
        working_folder: the folder in which the run was started; None if the manifest does not tell.
        source: the file of the weights.
        network: the network on its device, in eval mode.
        prepare: makes the network's input from batches.
        precision: the arithmetic of the forward pass.
        notes: what a person should know, such as a file of code that has changed since the training.
    """

    folder: RunFolder
    config: Config
    classes: tuple[str, ...]
    data: dict[str, Any]
    working_folder: str | None
    source: Path
    network: nn.Module
    prepare: ImagePreparer
    precision: Precision
    notes: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.prepare.device

    @property
    def image_size(self) -> int:
        """Side in pixels of the square images that the network takes."""
        return self.config.data.image_size

    @property
    def batch(self) -> int:
        """Images per forward pass, where nothing else is asked for."""
        return self.config.evaluate.batch

    @property
    def max_megapixels(self) -> float:
        """Larger photos are refused, where nothing else is asked for."""
        return self.config.data.max_megapixels

    @property
    def trained_on(self) -> str:
        """The name of the data set."""
        return str(self.data["name"])

    def __call__(self, images: Tensor) -> Tensor:
        """The logits of images.

        Args:
            images: uint8 [B, 3, S, S] in 0..255 on any device; S is `image_size`. This normalises them.

        Returns:
            float32 [B, C] on the model's device. With `evaluate.flip_average`, the mean over each image and its mirror;
            with `evaluate.ten_crop`, over ten crops.

        Raises:
            ValueError: the images have another shape or dtype.
        """
        size = self.image_size
        if images.dtype != torch.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise ValueError(
                f"the model takes uint8 images [B, 3, {size}, {size}], not {images.dtype} {list(images.shape)}."
            )
        unknown = torch.zeros(len(images), dtype=torch.int64)
        inputs, _ = self.prepare(Batch(images, unknown, unknown, 0, 0))
        flips, crops = self.config.evaluate.flip_average, self.config.evaluate.ten_crop_side
        return predict_logits(self.network, inputs, self.precision, flip_average=flips, ten_crop=crops)


@in_python_words()
def load_model(
    run_dir: str | Path, *, weights: str = "final", device: str | torch.device = "auto"
) -> TrainedModel | ExportedModel:
    """Read a trained model from its run folder, or from an export of it.

    Args:
        run_dir: a run folder; or the folder, or the file, that `python -m signs_dist.export` wrote.
        weights: of a run folder: `final` for model.pt, `best` or `last` for a checkpoint, or the path of a file.
        device: auto, cpu, cuda, cuda:N, or a torch.device.

    Returns:
        A `TrainedModel` for a run folder, an `ExportedModel` for an export. Both have `classes` and `image_size`, and
        are called with images.

    Raises:
        UserError: there is no run and no export, the file or the device does not exist, or the weights do not fit.

    Example:
        >>> import torch, signs_dist as sd
        >>> tiny = ["data.synthetic.train=32", "data.synthetic.val=6", "data.synthetic.test=6", "train.epochs=1"]
        >>> result = sd.fit(sd.load_config(None, tiny), run_dir="runs/tiny", quiet=True)
        val accuracy ...
        test accuracy ...
        >>> model = sd.load_model("runs/tiny")
        >>> logits = model(torch.zeros(2, 3, model.image_size, model.image_size, dtype=torch.uint8))
        >>> list(logits.shape), model.classes
        ([2, 6], ('0', '1', '2', '3', '4', '5'))
    """
    model = read_model(Path(run_dir), weights=weights, device=device)
    for note in model.notes:
        warnings.warn(note, stacklevel=3)  # past the frame of `in_python_words`
    return model


def read_model(path: Path, *, weights: str, device: str | torch.device) -> TrainedModel | ExportedModel:
    """As `load_model`, for a command, which prints the notes itself."""
    place = require_model(path)
    if place is None:
        return read_trained_model(path, weights=weights, device=device)
    if weights != "final":
        raise UserError(f"--weights {weights}: an export holds one set of weights. Omit it, or give the run folder.")
    return read_exported_model(
        place, device if isinstance(device, torch.device) else choose_device(read_context(), device)
    )


def read_trained_model(run_dir: Path, *, weights: str, device: str | torch.device) -> TrainedModel:
    """A trained model from its run folder alone. The caller prints the notes.

    Raises:
        UserError: as `load_model`.
    """
    place = device if isinstance(device, torch.device) else choose_device(read_context(), device)
    folder = RunFolder.open(run_dir)
    config = load_saved_config(folder.config)
    manifest = _read_manifest(folder)
    classes = tuple(manifest["data"]["classes"])
    working_folder = manifest.get("working_folder")
    source = find_weights(folder, weights)
    values = read_trained_weights(source)
    # `source` holds all weights: the file of `model.weights`, which may be gone, is not read.
    settings = config.model.model_copy(update={"weights": None})
    with torch.random.fork_rng(devices=()):  # initial weights are random; the caller's generator is restored
        network = create_model(settings, num_classes=len(classes), image_size=config.data.image_size)
    tensors.put_weights(network, values, source)
    layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
    network = network.to(device=place, memory_format=layout)  # type: ignore[call-overload]
    precision = choose_precision(config.train.precision, find_capability(place))
    require_logits(
        network,
        config.model.name,
        num_classes=len(classes),
        image_size=config.data.image_size,
        autocast=precision.autocast(),
    )
    return TrainedModel(
        folder=folder,
        config=config,
        classes=classes,
        data=manifest["data"],
        working_folder=working_folder if isinstance(working_folder, str) else None,
        source=source,
        network=network.eval(),
        prepare=ImagePreparer.create(config.data, place, channels_last=config.train.channels_last),
        precision=precision,
        notes=(*_code_notes(manifest), *_suspect_notes(folder, source)),
    )


def _code_notes(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """What to say about the files that define the network, after the network was made."""
    changed = changed_files(manifest.get("code", {}), {"files": imported_files(sys.modules)})
    what = "which defines" if len(changed) == 1 else "which define"
    return (f"changed since the training: {', '.join(changed)}, {what} what the network computes",) if changed else ()


def _suspect_notes(folder: RunFolder, source: Path) -> tuple[str, ...]:
    """What to say about a checkpoint of a run that has ended because of faulty hardware, until it has resumed."""
    if folder.checkpoints not in source.parents:
        return ()
    try:
        found = read_suspicion(folder)
    except UserError as error:
        return (f"{source} may hold wrong results: {error}",)
    if found is None:
        return ()
    return (
        f"{source} may hold wrong results: {found.what} Repeat the command of the training first: it resumes from a "
        f"state before that.",
    )


def read_trained_weights(source: Path) -> dict[str, Tensor]:
    """The weights in a file, under plain names. A checkpoint is verified first.

    Raises:
        UserError: the file is broken, has no weights, or is a checkpoint that no run could have saved.
    """
    if digest_path(source).is_file() and (damage := find_damage(source)):
        raise UserError(f"{source} is broken: {damage}. Choose the weights of another file.")
    content = read_plain(source, MAX_PICKLE_BYTES)
    if {"format", "cursor", "optimizer"} <= content.keys():
        try:
            require_whole(content, source)
        except CheckpointError as error:
            raise UserError(f"{error} Choose the weights of another file.") from error
    return weights_in(content, source)


def use_threads(trained: TrainedModel | ExportedModel, context: Context) -> None:
    """Set torch's number of CPU threads and malloc: as the run's `train.num_threads` and `train.allocator` say.

    For auto, there are as many threads as `context` has.
    """
    settings = trained.config.train if isinstance(trained, TrainedModel) else TrainConfig()
    torch.set_num_threads(context.num_threads if settings.num_threads == "auto" else settings.num_threads)
    keep_freed_memory(settings.allocator, trained.device.type)


def find_weights(folder: RunFolder, which: str) -> Path:
    """The file of the weights named `which`: final, best, last or a path.

    Raises:
        UserError: there is no such file.
    """
    store = CheckpointStore(folder.checkpoints, keep=1)
    newest = store.newest() or folder.checkpoints
    named = {"final": folder.model, "best": store.best, "last": newest}
    path = named.get(which, Path(which))
    if path.is_file():
        return path
    if which not in named:
        kind = find_other_kind(path)
        problem = f"it is {kind}, not a file" if kind else "no such file"
        raise UserError(f"weights {which}: {problem}. The weights are final, best, last or the path of a file.")
    present = [name for name, file in named.items() if file.is_file()]
    hint = f"Choose the weights {' or '.join(present)}." if present else "Let the run finish an epoch first."
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
