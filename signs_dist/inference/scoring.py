"""Scoring a trained model on a split of its data set, or of another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from torch.utils.data import Dataset

from signs_dist.config.settings import LossConfig
from signs_dist.data.batches import Batch
from signs_dist.data.folder import has_split, index_split
from signs_dist.data.loader import EvaluationLoader, choose_loader_settings
from signs_dist.data.plan import Shard
from signs_dist.data.sets import open_split, prepare_synthetic
from signs_dist.environment.context import read_context
from signs_dist.errors import UserError
from signs_dist.inference.trained_model import TrainedModel
from signs_dist.learning.losses import build_loss
from signs_dist.learning.metrics import Score, to_host
from signs_dist.training import loop

Report = Callable[[str, int, int], None]
"""Called with (what is being done, images done, images in all)."""


@dataclasses.dataclass(frozen=True)
class OpenedSplit:
    """The images of a split: the data set's name for people, the split's name, batches, their number, SHA-256."""

    data_name: str
    split: str
    source: Dataset[Batch]
    num_images: int
    fingerprint: str


def score(model: TrainedModel, data: str | Path | None = None, *, split: str = "val") -> Score:
    """How well a trained model does on a split.

        model = signs_dist.load_model("runs/a")
        result = signs_dist.score(model, "data/64x64_SIGNS", split="val")
        print(result.accuracy, result.loss, result.confusion)

    Args:
        model: from `load_model`.
        data: a data set with the model's classes; None for the one it was trained on.
        split: train, val or test.

    Returns:
        Sums over all images of the split, each counted once: `accuracy`, `loss`, `confusion`, `num_images`.

    Raises:
        UserError: no such folder or split, or other classes.
    """
    num_cores = read_context().usable_cores
    root = None if data is None else str(data)
    opened = open_scored_split(model, root, split, num_cores=num_cores, report=lambda *_: None)
    return score_split(model, opened, num_cores=num_cores)


def open_scored_split(
    model: TrainedModel, data: str | None, split: str, *, num_cores: int, report: Report
) -> OpenedSplit:
    """Find and open the images of a split.

    Args:
        model: whose classes the data set must have.
        data: its folder; None for the data set that the model was trained on.
        split: train, val or test.
        num_cores: CPU cores that preparing may use.
        report: hears about progress.

    Raises:
        UserError: no such folder or split, or other classes.
    """
    config = model.config
    if data is None and model.data["name"] == "synthetic":
        name = "synthetic"
        root = prepare_synthetic(config.data, num_processes=num_cores, report=report)
    else:
        name = data or model.data["name"]
        root = Path(data or model.data["root"]).expanduser()
    if root.is_dir() and not has_split(root, split):
        present = [other for other in ("train", "val", "test") if has_split(root, other)]
        raise UserError(f"--split {split}: {root} has only {', '.join(present)}. Type --split {present[-1]}.")
    index = index_split(root, split, classes=model.classes)
    source, fingerprint = open_split(index, config.data, num_threads=num_cores, report=report)
    return OpenedSplit(name, split, source, len(index), fingerprint)


def score_split(model: TrainedModel, opened: OpenedSplit, *, num_cores: int) -> Score:
    """How well the model does on an opened split; `num_cores` are CPU cores that loading may use."""
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
        loop.Judge(model.network, loss_function, model.precision, flip_average=flips),
        EvaluationLoader(opened.source, opened.num_images, config.evaluate.batch, Shard(), settings),
        model.prepare,
        len(model.classes),
    )
    return Score.from_sums(to_host(sums.tensors()))
