"""Computes a frozen backbone's features of each image once, and keeps them in a file: model.cache_features.

A file of features is `features-<split>-<key>.npy` in `data.cache`, float32 [N, …], with its SHA-256 beside it. The key
depends on the pixels, the backbone's weights, and all else that the values depend on: after a change, they are computed
again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.config.dotted_names import is_dotted
from signs_dist.config.settings import Config
from signs_dist.data.batches import Batch
from signs_dist.data.feature_batches import FeatureBatches
from signs_dist.data.loader import EvaluationLoader
from signs_dist.data.locks import locked
from signs_dist.data.plan import Shard
from signs_dist.data.sets import Report, choose_resize
from signs_dist.errors import UserError
from signs_dist.files import explained, umask, written_aside
from signs_dist.models.backbone import compute_features, name_of_head, require_head_last
from signs_dist.models.create import TORCHVISION_PREFIX
from signs_dist.models.timm_models import TIMM_PREFIX
from signs_dist.models.trainable import set_training_mode
from signs_dist.models.weights import named_weights
from signs_dist.run_folder.digest import digest_path, file_sha256, find_damage, read_digest
from signs_dist.run_folder.manifest import imported_files
from signs_dist.training.image_preparer import ImagePreparer

if TYPE_CHECKING:
    from signs_dist.training.prepare import Prepared
    from signs_dist.training.process import Process

FEATURES_VERSION = 1
"""Raise it when the same images and weights would give other features."""
_NUM_TRIED = 2

Features = npt.NDArray[np.float32]
Batches = Generator[Features, None, None]


@dataclasses.dataclass(frozen=True)
class FeaturePreparer:
    """Makes the head's input from a batch of features. They are neither augmented nor normalised."""

    device: torch.device

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(features float32 [B, …], labels int64 [B]) on the device."""
        return batch.images.to(self.device, non_blocking=True), batch.labels.to(self.device, non_blocking=True)


def with_features(prepared: Prepared, process: Process) -> Prepared:
    """`prepared` with the features of its images if model.cache_features asks for them. All processes call this."""
    if not prepared.config.model.cache_features:
        return prepared

    def open_all() -> dict[str, FeatureBatches]:
        with process.screen.preparing() as report:
            return open_features(prepared, process, report)

    features = process.strategy.all_succeed(open_all, "wait for the features")
    if prepared.config.exact:
        digests = {split: batches.digest for split, batches in features.items()}
        gathered = process.strategy.gather_values(digests, "compare the features")
        require_same_features(gathered, Path(prepared.config.data.cache))
    return dataclasses.replace(prepared, features=features)


def require_same_features(digests: Sequence[Mapping[str, str]], cache: Path) -> None:
    """Refuse features that differ between the processes of an exact run, as of two kinds of machines.

    Raises:
        UserError: the message names the ranks that differ from rank 0.
    """
    others = [str(rank) for rank, digest in enumerate(digests) if digest != digests[0]]
    if others:
        raise UserError(
            f"exact=true does not work with model.cache_features here: the features of rank {', '.join(others)} differ "
            f"from those of rank 0, because they were computed on another kind of machine. Put data.cache={cache} on a "
            f"file system that all machines share, or set model.cache_features=false."
        )


def open_features(prepared: Prepared, process: Process, report: Report) -> dict[str, FeatureBatches]:
    """The features of each split. Missing ones are computed first, by one process of those that share `data.cache`.

    Args:
        prepared: the parts of the run. The backbone is frozen.
        process: where this process runs.
        report: called with the progress.

    Raises:
        UserError: the network does not end with its head, or the cache cannot be written.
    """
    config, device = prepared.config, process.strategy.device
    prepare = ImagePreparer.create(config.data, device, channels_last=config.train.channels_last)
    cache = Path(config.data.cache)
    about = _about_values(prepared, device)
    opened: dict[str, FeatureBatches] = {}
    for split, source in prepared.sources.items():
        key = _key({**about, "images": prepared.fingerprints[split]})
        file = cache / f"features-{split}-{key}.npy"
        index = prepared.data.splits[split]
        features = _read(file, len(index))
        if features is None:
            with _locked(file, process):
                features = _read(file, len(index))
                if features is None:
                    computed = _batches_of_features(prepared, source, len(index), prepare, split, report)
                    features = _write(file, len(index), computed)
        opened[split] = FeatureBatches(features, index.labels, read_digest(file))
    return opened


def _about_values(prepared: Prepared, device: torch.device) -> dict[str, Any]:
    """All that features depend on, but for the images. Threads decide the order of sums, so exact mode names them."""
    config, model = prepared.config, prepared.model
    head = f"{name_of_head(model)}."
    backbone = {name: tensor for name, tensor in named_weights(model).items() if not name.startswith(head)}
    return {
        "version": FEATURES_VERSION,
        "weights": weights_sha256(backbone),
        "model": [config.model.name, config.model.args],
        "image_size": config.data.image_size,
        "mean": config.data.mean,
        "std": config.data.std,
        "precision": prepared.precision.name,
        "channels_last": config.train.channels_last,
        "batch": config.evaluate.batch,
        "exact_threads": prepared.way.num_threads if config.exact else None,
        **_about_resize(config),
        "code": _about_code(config.model.name),
        "torch": torch.__version__,
        "device": _name_of(device),
    }


def _about_resize(config: Config) -> dict[str, str]:
    """Who resizes the images, where that is not Pillow: features stored before there was a choice stay valid."""
    resize = choose_resize(config.data.resize, exact=config.exact)
    return {"resize": resize} if config.data.storage == "files" and resize != "pillow" else {}


def _about_code(network: str) -> Any:
    """What tells that the code of the network has changed: digests of the user's own files, or the library's version.

    The user's network may be put together from several files, so all files that are not installed count.
    """
    if network.startswith((TORCHVISION_PREFIX, TIMM_PREFIX)):
        return importlib.metadata.version(network.partition(":")[0])
    if is_dotted(network):
        return sorted({about["sha256"] for about in imported_files(sys.modules).values()})
    return None


def _name_of(device: torch.device) -> str:
    """The kind of the device, as far as it decides the bits of a result."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.backends.cpu.get_cpu_capability()


def _key(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _read(file: Path, num_images: int) -> Features | None:
    """A whole and undamaged file of features, memory-mapped; None if there is none."""
    if find_damage(file):
        return None
    features = np.load(file, mmap_mode="r")
    is_whole = features.dtype == np.float32 and features.ndim >= 2 and len(features) == num_images
    return features if is_whole else None


@contextlib.contextmanager
def _locked(file: Path, process: Process) -> Iterator[None]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file.with_suffix(".lock"), "computes these features", tell=process.screen.result):
            yield
    except OSError as error:
        described = explained(error, file)
        if isinstance(described, UserError):
            raise UserError(f"{described} Type: data.cache=FOLDER") from error
        raise


@torch.inference_mode()
def _batches_of_features(
    prepared: Prepared, source: Dataset[Batch], num_images: int, prepare: ImagePreparer, split: str, report: Report
) -> Batches:
    """The features of all images of a split, in order, a batch at a time: float32 [B, …]."""
    model, batch = prepared.model.eval(), prepared.config.evaluate.batch
    loader = EvaluationLoader(source, num_images, batch, Shard(0, 1), prepared.loading)
    done = 0
    try:
        with prepared.precision.autocast():
            for number, part in enumerate(loader):
                images, _ = prepare(part)
                if number == 0:
                    require_head_last(model, images[:_NUM_TRIED])
                features = compute_features(model, images).float().cpu().numpy()
                done += len(features)
                yield features
                report(f"computing features of {split} images", done, num_images)
    finally:
        loader.close()
        set_training_mode(model)


def _write(
    file: Path, num_images: int, batches: Generator[npt.NDArray[np.float32], None, None]
) -> npt.NDArray[np.float32]:
    """Write features aside, rename the file, and return it memory-mapped."""
    for leftover in file.parent.glob(f".{file.name}.*.part"):  # of processes that were killed: this one holds the lock
        leftover.unlink(missing_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".part")
    aside = Path(name)
    try:
        with contextlib.closing(batches), os.fdopen(descriptor, "wb") as stream:
            num_written = 0
            for features in batches:
                if num_written == 0:
                    header = {"descr": "<f4", "fortran_order": False, "shape": (num_images, *features.shape[1:])}
                    np.lib.format.write_array_header_1_0(stream, header)
                stream.write(np.ascontiguousarray(features, dtype="<f4").data)
                num_written += len(features)
            assert num_written == num_images
            stream.flush()
            os.fsync(stream.fileno())
        aside.chmod(0o666 & ~umask())  # mkstemp's files are private
        with written_aside(digest_path(file)) as digest:
            digest.write_text(f"{file_sha256(aside)}  {file.name}\n", encoding="utf-8")
        aside.rename(file)
    finally:
        aside.unlink(missing_ok=True)
    return np.load(file, mmap_mode="r")  # type: ignore[no-any-return]
