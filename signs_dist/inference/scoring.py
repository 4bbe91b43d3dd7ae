"""Scoring a trained model on a split of its data set or of another data set."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from signs_dist.config.settings import DataConfig
from signs_dist.data.batches import Batch
from signs_dist.data.folder import ImageIndex, has_split, index_split
from signs_dist.data.listed_images import with_classes
from signs_dist.data.loader import EvaluationLoader, choose_loader_settings
from signs_dist.data.names import listed
from signs_dist.data.other_sources import OtherSource, open_other_source
from signs_dist.data.plan import Shard
from signs_dist.data.sets import Report, choose_data_roots, open_split, prepare_synthetic
from signs_dist.data.sources.collection import to_index
from signs_dist.data.sources.dividing import Opened
from signs_dist.data.sources.division_file import COPY
from signs_dist.data.sources.opening import is_usual_folder, open_roots, read_roots
from signs_dist.data.sources.table_file import is_table_name
from signs_dist.environment.context import read_context
from signs_dist.environment.user_cache import user_cache_folder
from signs_dist.errors import UserError, in_python_words, require_kind
from signs_dist.inference.places import find_writable
from signs_dist.inference.trained_model import TrainedModel
from signs_dist.inference.unsplit import ALL, index_unsplit
from signs_dist.learning.losses import build_evaluation_loss
from signs_dist.learning.metrics import Score, to_host
from signs_dist.learning.own_parts import Metric, build_metrics, compute_metrics
from signs_dist.learning.probabilities import KeptProbabilities
from signs_dist.training import loop


@dataclasses.dataclass(frozen=True)
class OpenedSplit:
    """The images of a split.

    Attributes:
        data_name: the data set's name, for people.
        split: train, val, test, or all for photos that are not split.
        source: the batches.
        num_images: the number of images.
        fingerprint: SHA-256 of the images.
        notes: what a user should know of the images, such as what was passed over, or has changed. A line each.
        labels: int64 [N], one for each image.
        metrics: those of the run's evaluate.metrics, by name.
    """

    data_name: str
    split: str
    source: Dataset[Batch]
    num_images: int
    fingerprint: str
    notes: tuple[str, ...]
    labels: NDArray[np.int64]
    metrics: Mapping[str, Metric]


@in_python_words()
def score(model: TrainedModel, data: str | Path | None = None, *, split: str | None = None) -> Score:
    """Score a trained model on a split.

    Args:
        model: from `load_model`.
        data: a data set with the model's classes; None for the data set that the model was trained on.
        split: train, val or test. None: val, or all images where `data` is not split.

    Returns:
        The score over all images of the split: `accuracy`, `loss`, `confusion`, `num_images` and more.

    Raises:
        UserError: the folder or the split does not exist, or the classes differ.

    Example:
        >>> import signs_dist as sd
        >>> tiny = ["data.synthetic.train=32", "data.synthetic.val=6", "data.synthetic.test=6", "train.epochs=1"]
        >>> result = sd.fit(sd.load_config(None, tiny), run_dir="runs/tiny", quiet=True)
        val accuracy ...
        test accuracy ...
        >>> score = sd.score(sd.load_model("runs/tiny"), split="val")
        >>> score.num_images, score.accuracy == result["val_accuracy"], score.confusion.shape
        (6, True, (6, 6))
    """
    require_kind("model", model, TrainedModel, 'score(load_model("runs/a"))')
    num_cores = read_context().usable_cores
    root = None if data is None else str(data)
    with torch.random.fork_rng(devices=()):  # a DataLoader draws a random number; the caller's generator is restored
        opened = open_scored_split(model, root, split, num_cores=num_cores, report=lambda *_: None)
        return score_split(model, opened, num_cores=num_cores)


def open_scored_split(
    model: TrainedModel,
    data: str | None,
    split: str | None,
    *,
    num_cores: int,
    report: Report,
    max_megapixels: float | None = None,
) -> OpenedSplit:
    """Find and open the images of a split.

    Args:
        model: the data set must have its classes.
        data: the folder or table of the data set; None for the data set that the model was trained on.
        split: train, val or test. None: val, or all images where `data` is not split.
        num_cores: the CPU cores to use.
        report: called with the progress.
        max_megapixels: larger images are refused. None: as the run's config says.

    Raises:
        UserError: the folder or the split does not exist, or the classes differ.
    """
    user_cache = user_cache_folder(os.environ)
    cache = find_writable(model.config.data.cache, model.working_folder) or user_cache
    changes: dict[str, Any] = {"cache": str(cache)}
    if max_megapixels is not None:
        changes["max_megapixels"] = max_megapixels
    config = model.config.data.model_copy(update=changes)
    name = data or model.data["name"]
    trained_on = tuple(map(Path, model.data.get("sources", [model.data["root"]])))
    roots = trained_on if data is None else choose_data_roots(data, default_exists=False)
    if name == "synthetic" and data is None and not roots[0].is_dir():
        below = Path(model.working_folder or ".") if find_writable("data", model.working_folder) else user_cache
        roots = (prepare_synthetic(config, num_processes=num_cores, report=report, below=below),)
    places = {root.resolve() for root in roots}
    is_known = places in ({*trained_on}, {Path(model.data["root"])})
    copy = model.folder.path / COPY if places == {*trained_on} else None
    config = config if data is None else config.model_copy(update={"reader": None})
    other = open_other_source(config if data is None else _without_division(config), roots, copy=copy, report=report)
    if other is not None:
        index = _listed_index(model, other, split)
    else:
        index = _index(model, config, roots, split, copy)
    source, fingerprint = open_split(index, config, num_threads=num_cores, report=report, exact=model.config.exact)
    notes = (*(_image_notes(model, name, index.split, fingerprint) if is_known else ()), *index.remarks())
    metrics, left_out = _own_metrics(model)
    return OpenedSplit(name, index.split, source, len(index), fingerprint, (*notes, *left_out), index.labels, metrics)


def _own_metrics(model: TrainedModel) -> tuple[Mapping[str, Metric], tuple[str, ...]]:
    """The metrics of the model's config, and a note where their code is not found: the rest needs none of it."""
    try:
        return build_metrics(model.config.evaluate.metrics, len(model.classes)), ()
    except UserError as error:
        return {}, (f"evaluate.metrics are not computed: {error}",)


def _image_notes(model: TrainedModel, name: str, split: str, fingerprint: str) -> tuple[str, ...]:
    """What to say of the images in the folder of the training: whether they have changed."""
    known = model.data.get("fingerprints")
    before = known.get(split) if isinstance(known, dict) else None
    is_same = before is None or before == fingerprint
    return () if is_same else (f"changed since the training: the {split} images of {name}",)


def _index(
    model: TrainedModel, config: DataConfig, roots: Sequence[Path], split: str | None, copy: Path | None
) -> ImageIndex:
    """The images of a split, or all images of data that are not split.

    `copy` is the division of the model's run, if it was trained on these data; the file may be missing.
    """
    root = roots[0]
    if copy is not None and copy.is_file():
        return _chosen(open_roots(config, roots, copy=copy).splits, model, root, split)
    is_table = root.is_file() and is_table_name(root)
    if len(roots) == 1 and not is_table and (not root.is_dir() or is_usual_folder(root, config)):
        return _index_folder(model, root, split)
    found = read_roots(_without_division(config), roots)
    if isinstance(found, Opened):
        return _chosen(found.splits, model, root, split)
    if None in found.splits():
        if split is not None:
            raise UserError(_about_no_split(root, split))
        return to_index(found, ALL, model.classes, str(root))
    of_split = [name for name in found.splits() if name is not None]
    wanted = split or "val"
    if wanted not in of_split:
        raise UserError(f"{root} has no split {wanted}. Choose the split {' or '.join(of_split)}.")
    photos = [photo for photo in found.photos if photo.split == wanted]
    return to_index(dataclasses.replace(found, photos=photos), wanted, model.classes, str(root))


def _chosen(splits: Mapping[str, ImageIndex], model: TrainedModel, root: Path, split: str | None) -> ImageIndex:
    wanted = split or "val"
    if wanted not in splits:
        raise UserError(f"{root} has no split {wanted}. Choose the split {' or '.join(splits)}.")
    now = splits[wanted].classes
    if now != model.classes:
        raise UserError(f"{root} has the classes {listed(now)} now, and the model has {listed(model.classes)}.")
    return splits[wanted]


def _without_division(config: DataConfig) -> DataConfig:
    """The settings that find classes, without those of a division, which other data need not fit."""
    columns = config.columns.model_copy(update={"group": None})
    return config.model_copy(update={"group_pattern": None, "split": None, "split_seed": 0, "columns": columns})


def _index_folder(model: TrainedModel, root: Path, split: str | None) -> ImageIndex:
    present = [name for name in ("train", "val", "test") if has_split(root, name)] if root.is_dir() else []
    wanted = split or "val"
    if present and wanted not in present:
        raise UserError(f"{root} has no split {wanted}. Choose the split {' or '.join(present)}.")
    if root.is_dir() and not present:
        index = index_unsplit(root, model.classes, model.folder.path)
        if index is not None and split is not None:
            raise UserError(_about_no_split(root, split))
        if index is not None:
            return index
    return index_split(root, wanted, classes=model.classes)


def _about_no_split(root: Path, split: str) -> str:
    return f"{root} has no split {split}: its images are not split. To evaluate all of them, omit --split."


def _listed_index(model: TrainedModel, other: OtherSource, split: str | None) -> ImageIndex:
    wanted = split or "val"
    if wanted not in other.splits:
        raise UserError(f"{other.name} has no split {wanted}. Choose the split {' or '.join(other.splits)}.")
    return with_classes(other.splits[wanted], model.classes, other.name)


def score_split(model: TrainedModel, opened: OpenedSplit, *, num_cores: int) -> Score:
    """Score the model on an opened split with `num_cores` CPU cores."""
    config = model.config
    settings = choose_loader_settings(
        config.data,
        usable_cores=num_cores,
        on_gpu=model.device.type == "cuda",
        per_sample_work=config.data.storage == "files",
    )
    loss_function = build_evaluation_loss(config.loss, len(model.classes))
    flips, crops = config.evaluate.flip_average, config.evaluate.ten_crop_side
    kept = KeptProbabilities(len(model.classes), keeps_all=True) if opened.metrics else None
    sums = loop.evaluate(
        loop.EvaluationForward(model.network, loss_function, model.precision, flip_average=flips, ten_crop=crops),
        EvaluationLoader(opened.source, opened.num_images, config.evaluate.batch, Shard(), settings),
        model.prepare,
        len(model.classes),
        kept,
    )
    score = Score.from_sums(to_host(sums.tensors()))
    if kept is None:
        return score
    probabilities, labels = torch.from_numpy(kept.in_full()), torch.from_numpy(opened.labels.copy())
    return dataclasses.replace(score, metrics=compute_metrics(opened.metrics, probabilities, labels))
