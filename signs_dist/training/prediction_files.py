"""Writing predictions-val.jsonl and predictions-test.jsonl into the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signs_dist.data.images import MAX_MEGAPIXELS
from signs_dist.data.sets import DataSet
from signs_dist.errors import SaveError, UserError
from signs_dist.files import written_aside
from signs_dist.learning.probabilities import KeptProbabilities, ProbabilityTable
from signs_dist.results.predictions import PredictionsHeader, predictions_path, read_header, to_text
from signs_dist.run_folder.folder import RunFolder
from signs_dist.training.process import Process

SPLITS = ("val", "test")
"""The splits with a file of predictions."""


class PredictionFiles:
    """Writes the predictions of a run, on the process that writes.

    Args:
        folder: the run folder.
        data: the images of the run.
        process: where this process runs.
        max_megapixels: as data.max_megapixels.
        stops_on_error: whether a file that cannot be written ends the run, as `checkpoint.on_error` says; if not, a
            line tells it.
    """

    def __init__(
        self,
        folder: RunFolder,
        data: DataSet,
        process: Process,
        *,
        stops_on_error: bool,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        self._folder, self._data, self._process, self._stops_on_error = folder, data, process, stops_on_error
        self._max_megapixels = max_megapixels

    def write(self, split: str, kept: KeptProbabilities, about: Mapping[str, Any]) -> None:
        """Gather the probabilities of all processes, and write the file of a split, whole or not at all.

        All processes call this.

        Args:
            split: val or test.
            kept: of this process's images of the split.
            about: `epoch`, `step` and `weights` of the header.

        Raises:
            SaveError: the file cannot be written, and that ends the run.
            TrainingFailedError: another run has taken over the folder.
        """
        tables: list[ProbabilityTable] = self._process.strategy.gather_values(kept.table(), "gather predictions")
        if not self._folder.is_writer:
            return
        index = self._data.splits[split]
        table = ProbabilityTable.joined(tables)
        assert len(table.values) == len(index)
        header = PredictionsHeader(
            split=split, classes=self._data.classes, root=str(self._data.root.resolve()), **about
        )
        # Each process has whole batches of the split, and one process after the other is the split in its order.
        text = to_text(header, zip(index.paths, index.labels.tolist(), table.rows(), strict=True))
        self._folder.require_held()
        path = predictions_path(self._folder.path, split)
        try:
            write_predictions(path, text)
            if index.source is not None:  # the report could not read these images
                from signs_dist.training.prediction_pictures import write_pictures

                write_pictures(self._folder, index, table, max_megapixels=self._max_megapixels)
        except (UserError, OSError) as error:
            self._folder.require_held()  # raises if the folder was moved meanwhile
            told = str(error) if isinstance(error, UserError) else f"cannot write {path}: {error.strerror or error}."
            if self._stops_on_error:
                raise SaveError(told) from error
            self._process.screen.result(f"warning: {told} Training continues without these predictions.")


def write_predictions(path: Path, text: str) -> None:
    """Write a file of predictions, whole or not at all. Raises `UserError` or OSError if it cannot be written."""
    with written_aside(path) as aside:
        # File names that are not UTF-8 hold lone surrogates, which JSON writes as escapes such as \udcff.
        aside.write_bytes(text.encode("utf-8", "backslashreplace"))


def drop_later_predictions(folder: RunFolder, num_steps: int) -> None:
    """Remove predictions of weights after a run's first `num_steps` steps, which it now trains again."""
    for split in SPLITS:
        path = predictions_path(folder.path, split)
        header = read_header(path)
        if header is not None and header.step > num_steps:
            folder.require_held()
            path.unlink(missing_ok=True)
