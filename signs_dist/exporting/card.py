"""The model card: a page of Markdown that says what a model is, how good it is, and how to load it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from signs_dist.console.screen import percent
from signs_dist.exporting.checking import Agreement
from signs_dist.exporting.formats import FORMATS
from signs_dist.exporting.machine_paths import paths_in
from signs_dist.exporting.photos import Judged
from signs_dist.inference.export_files import GRAPH_FILE, MODEL_FILES
from signs_dist.inference.export_record import ExportRecord
from signs_dist.monitoring.plain_text import one_line

_DEEP = (
    "Pillow's `convert` cuts greyscale of 16 bits off at 255: scale it to 8 bits before these lines, or use "
    "`signs_dist.predict`, which does it."
)
MOST_CLASSES = 200
"""A longer list of classes is cut; the file itself has them all."""


@dataclasses.dataclass(frozen=True)
class CardContent:
    """What the card tells.

    Attributes:
        record: what the export says about itself.
        folder: its files.
        judged: the accuracy of each class.
        agreements: how it agrees with the run.
        versions: of the packages that ran it.
        split_sizes: the number of images by split.
    """

    record: ExportRecord
    folder: Path
    judged: Judged
    agreements: Sequence[Agreement]
    versions: Mapping[str, str]
    split_sizes: Mapping[str, int]


def make_card(content: CardContent) -> str:
    """The card as Markdown."""
    parts = [
        _head(content.record),
        _title(content),
        _results(content),
        _loading(content),
        _input(content.record),
        _classes(content),
        _checks(content),
        _limits(content),
        _origin(content),
    ]
    return "\n\n".join(parts) + "\n"


def _head(record: ExportRecord) -> str:
    """The lines that model hubs read."""
    library = ["library_name: timm"] if record.network.startswith("timm:") else []
    return "\n".join(["---", *library, "pipeline_tag: image-classification", "---"])


def _title(content: CardContent) -> str:
    record = content.record
    sizes = ", ".join(f"{size:,} {split}" for split, size in content.split_sizes.items())
    return (
        f"# {cell(record.name)}\n\n"
        f"A classifier of photos into {len(record.classes):,} classes: `{one_line(record.network)}`, trained on "
        f"{cell(record.trained_on)}{f' ({sizes} images)' if sizes else ''}."
    )


def _results(content: CardContent) -> str:
    rows = [
        f"| {cell(result.data)}, {result.split} | {percent(result.accuracy)} | "
        f"{100 * result.interval[0]:.1f} to {100 * result.interval[1]:.1f} % | "
        f"{result.num_correct:,} of {result.num_images:,} | "
        f"{'these weights, in float32' if result.measured == 'export' else 'as the run reported'} |"
        for result in content.record.results
    ]
    return "\n".join(
        [
            "## Results",
            "",
            "| images | accuracy | 95 % interval | right | measured |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def _loading(content: CardContent) -> str:
    record = content.record
    form = FORMATS[record.format]
    packages = ", ".join(f"{name} {version}" for name, version in content.versions.items())
    lines = [
        "## Load it",
        "",
        f"In this folder, with {packages}; signs_dist is not needed:",
        "",
        "```python",
        *form.load_lines(record, content.folder),
        "```",
        "",
        "## Use it",
        "",
        "After these lines:",
        "",
        "```python",
        *form.use_lines(record),
        "```",
        "",
        "`probabilities` has a row for each photo and a column for each class, in the order below. With signs_dist:",
        "",
        "```sh",
        "python -m signs_dist.predict . photo.jpg",
        "```",
    ]
    if (content.folder / GRAPH_FILE).is_file():
        lines += [
            "",
            f"No library has this network: `{GRAPH_FILE}` holds what it computes, as a graph of torch.export.",
        ]
    return "\n".join(lines)


def _input(record: ExportRecord) -> str:
    preprocessing = record.preprocessing
    size, mean, std = preprocessing.image_size, preprocessing.mean, preprocessing.std
    steps = (
        f"Photos as 8-bit RGB, upright by EXIF, with white where they are transparent, are resized to {size} x {size} "
        f"pixels without keeping their proportions (bicubic, antialiased), scaled to 0..1, and normalised with the "
        f"mean {list(mean)} and the deviation {list(std)} of the channels."
    )
    if preprocessing.is_inside:
        where = (
            "The file does all of it. It takes uint8 [N, height, width, 3] in 0..255, of any number, height and width; "
            "the photos of one call have one size. It returns logits and probabilities, float32 "
            f"[N, {len(record.classes)}]."
        )
    else:
        where = f"The lines above do it; the network takes float32 [N, 3, {size}, {size}] and returns logits."
    return f"## Input\n\n{steps} {where} {_DEEP}{_average(record)}"


def _average(record: ExportRecord) -> str:
    """Over which views of a photo the logits are averaged, and where."""
    is_left_out = record.ten_crop is None and record.config.get("evaluate", {}).get("ten_crop")
    if is_left_out:
        return "\n\nThe run averages over ten crops. These files leave it out: the results are without it."
    if record.ten_crop is None and not record.flip_average:
        return ""
    place = "The file does it." if record.views_are_inside else "The weights alone leave it out; the lines above do it."
    whole = "each photo and its mirror" if record.ten_crop is None else "ten crops of each photo"
    return f"\n\nThe logits are averaged over {whole}, as for the results. {place}"


def _classes(content: CardContent) -> str:
    judged = content.judged
    rows = [
        f"| {label} | {cell(name)} | {right:,} of {count:,} |"
        for label, (name, right, count) in enumerate(
            zip(content.record.classes, judged.num_correct_of_class, judged.num_of_class, strict=True)
        )
    ]
    more = len(rows) - MOST_CLASSES
    return "\n".join(
        [
            "## Classes",
            "",
            f"| column | class | right on {judged.result.split} |",
            "|---|---|---|",
            *rows[:MOST_CLASSES],
            *([f"\nand {more:,} more, which the metadata of the file name."] if more > 0 else []),
        ]
    )


def _checks(content: CardContent) -> str:
    lines = [
        "## Checked",
        "",
        "These files were run without signs_dist, and compared with the run's own model:",
        "",
        *(f"- {agreement.line()}" for agreement in content.agreements),
        "",
        "The run reads larger photos in steps that save time, so their pixels differ a little.",
    ]
    return "\n".join(lines)


def _limits(content: CardContent) -> str:
    record = content.record
    lines = [
        "- Every photo gets one of these classes, also one that shows something else. A probability is no certainty.",
        "- The accuracy holds for photos like those it was measured on: the same cameras, light and things.",
        f"- The {record.results[0].split} photos were looked at while the model was made: expect a little less on "
        f"new ones.",
        "- One class for each photo: no several labels, no boxes, no masks.",
    ]
    if record.format == "torch" or (content.folder / GRAPH_FILE).is_file():
        lines.append(
            f"- The .pt2 file was written by torch {record.versions['torch']}. Later releases usually read it, earlier "
            f"ones may not. Load files of people you trust only: reading one can run code."
        )
    elif record.format == "safetensors" and not record.network.startswith(("timm:", "torchvision:")):
        files = "".join(
            f", and `{one_line(path)}` of the machine of the training" for path in paths_in(record.network_args)
        )
        lines.append(f"- torch.export cannot trace this network: the lines above need the file with its class{files}.")
    return "\n".join(["## Limits", "", *lines])


def _origin(content: CardContent) -> str:
    record = content.record
    rows = {
        "run": f"{cell(record.name)}, weights {cell(record.weights)}",
        "SHA-256 of the weights": f"`{record.weights_sha256}` (`signs_dist.weights_sha256`)",
        "made by": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
        "settings": f"in the metadata of `{MODEL_FILES[record.format]}`, under `signs_dist`",
    }
    return "\n".join(["## Origin", "", "| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())])


def cell(text: str) -> str:
    """A name from outside within a line or a table of Markdown."""
    plain = one_line(text)
    for character in "\\`*_[]<>|":
        plain = plain.replace(character, "&lt;" if character == "<" else f"\\{character}")
    return plain
