"""Export a run: judge its own model, write the files, run them elsewhere, and put them in their place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from signs_dist import __version__
from signs_dist.checkpointing.tensors import plain_weights, weights_sha256
from signs_dist.config.reading import load_saved_config
from signs_dist.config.settings import Config
from signs_dist.data.sets import Report
from signs_dist.exporting.card import CardContent, make_card
from signs_dist.exporting.checking import check
from signs_dist.exporting.formats import FORMATS
from signs_dist.exporting.machine_paths import names_of_paths
from signs_dist.exporting.photos import Judged, judge
from signs_dist.exporting.placing import placed
from signs_dist.files import write_text
from signs_dist.inference.export_files import CARD_FILE, Format
from signs_dist.inference.export_record import ExportRecord, Preprocessing, Result
from signs_dist.inference.scoring import open_scored_split
from signs_dist.inference.trained_model import TrainedModel
from signs_dist.learning.precision import Precision
from signs_dist.models.create import is_shipped


@dataclasses.dataclass(frozen=True)
class Exported:
    """A finished export.

    Attributes:
        folder: where it lies.
        sizes: bytes by file.
        record: what it says about itself.
    """

    folder: Path
    sizes: Mapping[str, int]
    record: ExportRecord


def export_model(
    model: TrainedModel,
    form: Format,
    out: Path,
    *,
    data: str | None,
    num_cores: int,
    report: Report,
    say: Callable[[str], None],
) -> Exported:
    """Write an export of a trained model.

    Args:
        model: on the CPU.
        form: the format.
        out: the folder to make. An earlier export there is replaced.
        data: the data set to check it on; None for that of the training.
        num_cores: CPU cores to use.
        report: called with the progress of reading the photos.
        say: called with a line for each thing that was found.

    Raises:
        UserError: the photos are missing, the network cannot be written in this format, or the disk is full.
        ExportDiffersError: the export differs from the model; nothing is written.
    """
    for remark in remarks(model, form):
        say(remark)
    model = in_float32(model)
    if not FORMATS[form].IS_INSIDE:
        model = without_ten_crop(model)
    opened = open_scored_split(model, data, None, num_cores=num_cores, report=report)
    judged = judge(model, opened, num_cores=num_cores)
    result = model.folder.read_result() or {}
    record = make_record(model, form, judged, result)
    verbs = FORMATS[form]
    with placed(out) as folder:
        verbs.write(folder, model.network, record)
        agreements, versions = check(verbs, folder, record, judged.photo_sets)
        for agreement in agreements:
            say(agreement.line())
        sizes = result.get("split_sizes", {})
        card = make_card(CardContent(record, folder, judged, agreements, versions, sizes))
        write_text(folder / CARD_FILE, card)
        files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    return Exported(out, files, record)


def remarks(model: TrainedModel, form: Format) -> list[str]:
    """In what the export computes otherwise than the run: a line each."""
    lines = []
    if model.precision.name != "float32":
        lines.append(
            f"the run computes in {model.precision.name}, the export in float32: their probabilities differ a little"
        )
    if model.config.evaluate.ten_crop and not FORMATS[form].IS_INSIDE:
        lines.append(f"left out: evaluate.ten_crop, which {form} does not hold; the accuracy is without it")
    return lines


def in_float32(model: TrainedModel) -> TrainedModel:
    """The model as an export computes: in float32, in plain memory order, whatever the run computed in."""
    network = model.network.to(memory_format=torch.contiguous_format)
    prepare = dataclasses.replace(model.prepare, channels_last=False)
    precision = Precision("float32", model.device.type)
    return dataclasses.replace(model, network=network, prepare=prepare, precision=precision)


def without_ten_crop(model: TrainedModel) -> TrainedModel:
    """The model as it predicts without the average over ten crops."""
    evaluation = model.config.evaluate.model_copy(update={"ten_crop": False})
    return dataclasses.replace(model, config=model.config.model_copy(update={"evaluate": evaluation}))


def make_record(model: TrainedModel, form: Format, judged: Judged, result: Mapping[str, Any]) -> ExportRecord:
    """What the export says about itself; `result` is the content of result.json, empty for an unfinished run."""
    config = model.config
    is_inside = FORMATS[form].IS_INSIDE
    is_final = model.source == model.folder.model
    ten_crop = config.evaluate.ten_crop_side
    return ExportRecord(
        format=form,
        name=model.folder.path.resolve().name,
        trained_on=Path(model.trained_on).name,
        network=config.model.name,
        network_args=_network_args(config, form),
        classes=model.classes,
        preprocessing=Preprocessing(
            image_size=model.image_size, mean=config.data.mean, std=config.data.std, is_inside=is_inside
        ),
        flip_average=config.evaluate.flip_average,
        ten_crop=ten_crop,
        views_are_inside=is_inside and (config.evaluate.flip_average or ten_crop is not None),
        max_megapixels=config.data.max_megapixels,
        batch=config.evaluate.batch,
        weights=_describe_weights(model, result if is_final else {}),
        weights_sha256=weights_sha256(plain_weights(model.network)),
        results=(judged.result, *(_results_of_run(result, judged.result) if is_final else ())),
        config=without_paths(load_saved_config(model.folder.config)),
        versions={"signs_dist": __version__, "torch": torch.__version__},
    )


def _network_args(config: Config, form: Format) -> dict[str, Any]:
    """`model.args`: with its paths only where somebody may have to call the user's own class with it."""
    is_called = form == "safetensors" and not is_shipped(config.model.name)
    args: dict[str, Any] = config.model.args if is_called else names_of_paths(config.model.args)
    return args


def _describe_weights(model: TrainedModel, result: Mapping[str, Any]) -> str:
    """The file of the weights within the run, and after which epoch they are."""
    file = model.source
    name = str(file.relative_to(model.folder.path)) if file.is_relative_to(model.folder.path) else file.name
    chosen = result.get("weights", {})
    return f"{name}, {chosen['kind']}, after epoch {chosen['epoch']}" if chosen else name


def _results_of_run(result: Mapping[str, Any], judged: Result) -> list[Result]:
    """The accuracies in result.json that the export has not measured in the same way."""
    found = []
    for split in ("val", "test"):
        counts = result.get(f"{split}_correct"), result.get(f"{split}_images")
        if not all(counts) or (judged.split, judged.num_correct, judged.num_images) == (split, *counts):
            continue
        found.append(
            Result(
                split=split,
                data=Path(str(result["data"])).name,
                num_images=result[f"{split}_images"],
                num_correct=result[f"{split}_correct"],
                accuracy=result[f"{split}_accuracy"],
                interval=result[f"{split}_accuracy_interval"],
                measured="run",
            )
        )
    return found


def without_paths(config: Config) -> dict[str, Any]:
    """The settings without the folders of this machine: of an absolute path the last name is kept."""
    settings: dict[str, Any] = config.model_dump(mode="json")
    for name in ("root", "cache"):
        settings["data"].pop(name, None)
    if settings["model"].get("weights"):
        settings["model"]["weights"] = Path(settings["model"]["weights"]).name
    told: dict[str, Any] = names_of_paths(settings)
    return told
