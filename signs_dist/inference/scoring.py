"""Scoring a trained model on a split of its data set or of another data set."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch.utils.data import Dataset

from signs_dist.config.settings import LossConfig
from signs_dist.data.batches import Batch
from signs_dist.data.folder import has_split, index_split
from signs_dist.data.loader import EvaluationLoader, choose_loader_settings
from signs_dist.data.plan import Shard
from signs_dist.data.sets import Report, open_split, prepare_synthetic
from signs_dist.environment.context import read_context
from signs_dist.errors import UserError, in_python_words, require_kind
from signs_dist.inference.trained_model import TrainedModel
from signs_dist.learning.losses import build_loss
from signs_dist.learning.metrics import Score, to_host
from signs_dist.training import loop


@dataclasses.dataclass(frozen=True)
class OpenedSplit:
    """The images of a split.

    Attributes:
        data_name: the data set's name, for people.
        split: train, val or test.
        source: the batches.
        num_images: the number of images.
        fingerprint: SHA-256 of the images.
    """

    data_name: str
    split: str
    source: Dataset[Batch]
    num_images: int
    fingerprint: str


@in_python_words()
def score(model: TrainedModel, data: str | Path | None = None, *, split: str = "val") -> Score:
    """Score a trained model on a split.

    Args:
        model: from `load_model`.
        data: a data set with the model's classes; None for the data set that the model was trained on.
        split: train, val or test.

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
    model: TrainedModel, data: str | None, split: str, *, num_cores: int, report: Report
) -> OpenedSplit:
    """Find and open the images of a split.

    Args:
        model: the data set must have its classes.
        data: the folder of the data set; None for the data set that the model was trained on.
        split: train, val or test.
        num_cores: the CPU cores to use.
        report: called with the progress.

    Raises:
        UserError: the folder or the split does not exist, or the classes differ.
    """
    config = model.config
    if data is None and model.data["name"] == "synthetic":
        name = "synthetic"
        root = prepare_synthetic(config.data, num_processes=num_cores, report=report)
    else:
        name = data or model.data["name"]
        root = Path(data or model.data["root"]).expanduser()
    present = [name for name in ("train", "val", "test") if has_split(root, name)] if root.is_dir() else []
    if present and split not in present:
        raise UserError(f"{root} has no split {split}. Choose the split {' or '.join(present)}.")
    index = index_split(root, split, classes=model.classes)
    source, fingerprint = open_split(index, config.data, num_threads=num_cores, report=report)
    return OpenedSplit(name, split, source, len(index), fingerprint)


def score_split(model: TrainedModel, opened: OpenedSplit, *, num_cores: int) -> Score:
    """Score the model on an opened split with `num_cores` CPU cores."""
    config = model.config
    settings = choose_loader_settings(
        config.data,
        usable_cores=num_cores,
        on_gpu=model.device.type == "cuda",
        per_sample_work=config.data.storage == "files",
    )
    loss_function = build_loss(LossConfig(name=config.loss.name, label_smoothing=0.0), len(model.classes))
    flips = config.evaluate.flip_average
    sums = loop.evaluate(
        loop.EvaluationForward(model.network, loss_function, model.precision, flip_average=flips),
        EvaluationLoader(opened.source, opened.num_images, config.evaluate.batch, Shard(), settings),
        model.prepare,
        len(model.classes),
    )
    return Score.from_sums(to_host(sums.tensors()))
