"""Two runs on the same images: which images the second run fixed, and which it broke."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.errors import UserError
from signs_dist.results.differences import differing_settings
from signs_dist.results.predictions import Prediction, PredictionsHeader, predictions_path, read_predictions
from signs_dist.results.statistics import accuracy_change, mcnemar
from signs_dist.results.summary import summarise_run
from signs_dist.run_folder.folder import RunFolder


@dataclasses.dataclass(frozen=True)
class ChangedImage:
    """An image that one of the two runs classifies correctly.

    Attributes:
        file: as both files of predictions name it.
        label: its class.
        before: the class that the first run predicts.
        after: the class that the second run predicts.
    """

    file: str
    label: str
    before: str
    after: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """One run's predictions for a split: of which weights, and how many images."""

    path: Path
    header: PredictionsHeader
    num_images: int
    fingerprint: str


# Many members: one for each part of what is shown.
@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """The second run compared with the first.

    Attributes:
        first, second: what is compared.
        split: val or test.
        settings: dotted key → (value of the first, value of the second), for each setting that differs.
        num_images: how many images both have.
        num_correct: of these, by the first and by the second run.
        fixed: wrong in the first run, right in the second, by name.
        broke: right in the first run, wrong in the second, by name.
        is_same_data: whether both runs had the same images, by their fingerprints.
    """

    first: Evaluated
    second: Evaluated
    split: str
    settings: Mapping[str, Sequence[Any]]
    num_images: int
    num_correct: tuple[int, int]
    fixed: tuple[ChangedImage, ...]
    broke: tuple[ChangedImage, ...]
    is_same_data: bool

    @property
    def accuracies(self) -> tuple[float, float]:
        """Share of the common images that each run classifies correctly, 0..1."""
        return self.num_correct[0] / self.num_images, self.num_correct[1] / self.num_images

    @property
    def change(self) -> tuple[float, float, float]:
        """The change in accuracy and its 95 % interval, each -1..1."""
        return accuracy_change(len(self.fixed), len(self.broke), self.num_images)

    @property
    def p_value(self) -> float:
        """Of McNemar's exact test."""
        return mcnemar(len(self.fixed), len(self.broke))

    def to_fields(self) -> dict[str, Any]:
        """As plain values for JSON."""
        change, low, high = self.change
        return {
            "runs": [_fields_of(self.first), _fields_of(self.second)],
            "split": self.split,
            "is_same_data": self.is_same_data,
            "settings": {key: list(values) for key, values in self.settings.items()},
            "num_images": self.num_images,
            "accuracies": list(self.accuracies),
            "change": change,
            "change_interval": [low, high],
            "p_value": self.p_value,
            "fixed": [dataclasses.asdict(image) for image in self.fixed],
            "broke": [dataclasses.asdict(image) for image in self.broke],
        }


def compare_runs(first: Path, second: Path, split: str) -> Comparison:
    """Compare two runs by their predictions for a split.

    Raises:
        UserError: a path is no run folder, predictions are missing, or the runs have no image in common.
    """
    (before, old), (after, new) = _read(first, split), _read(second, split)
    is_same = before.fingerprint == after.fingerprint or (
        "" in (before.fingerprint, after.fingerprint) and old.keys() == new.keys()
    )
    is_drawn = not (before.header.root and after.header.root)
    common = sorted(old.keys() & new.keys())
    if not common or (is_drawn and not is_same):
        why = "drawn images of the same name are other images" if common else "they have no image in common"
        raise UserError(
            f"{first} and {second} were evaluated on other {split} images ({before.num_images:,} and "
            f"{after.num_images:,}), and {why}. Evaluate both on the same data, such as: python -m signs_dist.evaluate "
            f"{shlex.quote(str(second))} --data FOLDER"
        )
    changed = [_change(file, old[file], new[file], before, after) for file in common]
    fixed = tuple(image for image in changed if image.before != image.label == image.after)
    broke = tuple(image for image in changed if image.before == image.label != image.after)
    settings = [summarise_run(path).settings for path in (first, second)]
    return Comparison(
        first=before,
        second=after,
        split=split,
        settings=differing_settings(settings),
        num_images=len(common),
        num_correct=(
            sum(image.before == image.label for image in changed),
            sum(image.after == image.label for image in changed),
        ),
        fixed=fixed,
        broke=broke,
        is_same_data=is_same,
    )


_Key = tuple[str, str]
"""An image: its file and the name of its class."""


def _read(path: Path, split: str) -> tuple[Evaluated, dict[_Key, Prediction]]:
    RunFolder.open(path)
    file = predictions_path(path, split)
    found = read_predictions(file)
    if found is None:
        raise UserError(_explain_missing(path, file, split))
    header, predictions = found
    images = {(each.file, header.classes[each.label]): each for each in predictions}
    return (
        Evaluated(path=path, header=header, num_images=len(images), fingerprint=_read_fingerprint(path, split)),
        images,
    )


def _explain_missing(path: Path, file: Path, split: str) -> str:
    if file.exists():
        return f"{file} cannot be read, or a later release has written it. Train the run again, or update signs_dist."
    other = {"val": "test", "test": "val"}[split]
    if predictions_path(path, other).exists():
        return f"{path} has no predictions for its {split} images, but for {other}. Type --split {other}"
    return (
        f"{path} has no {file.name}: no {split} images were evaluated, or an earlier release trained it. A run writes "
        f"the file at each evaluation that is its best, and at its end. To resume or repeat it, type its command: "
        f"manifest.json has it."
    )


def _read_fingerprint(path: Path, split: str) -> str:
    """The fingerprint of the split's images, from manifest.json; "" where it is not known."""
    try:
        manifest = json.loads(RunFolder(path).manifest.read_text(encoding="utf-8"))
        return str(manifest["data"]["fingerprints"][split])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""


def _change(key: _Key, old: Prediction, new: Prediction, before: Evaluated, after: Evaluated) -> ChangedImage:
    file, label = key
    return ChangedImage(file, label, before.header.classes[old.predicted], after.header.classes[new.predicted])


def _fields_of(run: Evaluated) -> dict[str, Any]:
    return {
        "path": str(run.path),
        "weights": run.header.weights,
        "epoch": run.header.epoch,
        "num_images": run.num_images,
        "fingerprint": run.fingerprint,
    }
