"""training-images.png of a run folder: the first training images as the network sees them, so that a wrong augmentation
is seen. training-images.jsonl names them."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from signs_dist.errors import UserError
from signs_dist.files import written_aside
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.lines import to_line
from signs_dist.training.image_preparer import ImagePreparer
from signs_dist.training.process import Process
from signs_dist.training.stepper import Stepper

NUM_COLUMNS = 8
"""The picture is always this many images wide; of the last row some places may be white."""
MOST_IMAGES = 32
LARGEST_SIDE = 256
"""In pixels. Larger images are reduced, so that the picture stays below a few megabytes."""


def write_training_images(folder: RunFolder, stepper: Stepper, process: Process) -> None:
    """Write the first images of the run's first step, on the process that writes.

    They are read, augmented and normalised by the run's own code, and depend on the config and the images alone: not on
    the number of processes. Their random draws are a hash, so nothing that is drawn later changes.

    A file that cannot be written is told, and training continues.

    Raises:
        UserError: an image cannot be read. Training could not read it either.
        TrainingFailedError: another run has taken over the folder.
    """
    if not folder.is_writer:
        return
    process.pulse.enter("write training images")
    batch, images, targets = stepper.first_images(MOST_IMAGES)
    picture = arrange(to_pixels(images, stepper.prepare_train))
    paths = stepper.prepared.data.splits["train"].paths
    rows = zip(batch.samples.tolist(), batch.labels.tolist(), shares_of(targets), strict=True)
    lines = b"".join(to_line({"file": paths[sample], "label": label} | shares) for sample, label, shares in rows)
    folder.require_held()
    try:
        with written_aside(folder.path / "training-images.jsonl") as aside:
            aside.write_bytes(lines)
        with written_aside(folder.path / "training-images.png") as aside:
            _save_png(aside, picture)
    except (UserError, OSError) as error:
        folder.require_held()  # raises if the folder was moved meanwhile
        process.screen.result(f"warning: {error} Training continues without training-images.png.")


def shares_of(targets: Tensor) -> list[dict[str, dict[str, float]]]:
    """For each mixed image `shares`: label → its share, largest first; nothing for images that are not mixed.

    Args:
        targets: labels int64 [N], or shares of the classes float32 [N, C].
    """
    if not targets.is_floating_point():
        return [{} for _ in range(len(targets))]
    rows = []
    for row in targets.tolist():
        shares = sorted(((share, label) for label, share in enumerate(row) if share > 0), reverse=True)
        rows.append({"shares": {str(label): round(share, 4) for share, label in shares}} if len(shares) > 1 else {})
    return rows


def to_pixels(images: Tensor, prepare: ImagePreparer) -> Tensor:
    """Prepared images as pixels, without their normalisation: uint8 [N, 3, S, S] on the CPU, S at most LARGEST_SIDE."""
    pixels = ((images - prepare.offset) / prepare.factor).clamp(0, 1)
    if max(pixels.shape[2:]) > LARGEST_SIDE:
        pixels = F.interpolate(pixels, size=(LARGEST_SIDE, LARGEST_SIDE), mode="area")
    return (pixels * 255).round().to(torch.uint8).cpu()


def arrange(pixels: Tensor) -> Tensor:
    """Images uint8 [N, 3, S, S], row by row in `NUM_COLUMNS` columns without gaps: uint8 [rows · S, columns · S, 3]."""
    count, channels, height, width = pixels.shape
    num_rows = -(-count // NUM_COLUMNS)
    places = pixels.new_full((num_rows * NUM_COLUMNS, channels, height, width), 255)
    places[:count] = pixels
    grid = places.reshape(num_rows, NUM_COLUMNS, channels, height, width).permute(0, 3, 1, 4, 2)
    return grid.reshape(num_rows * height, NUM_COLUMNS * width, channels)


def _save_png(path: Path, picture: Tensor) -> None:
    import PIL.Image

    with path.open("wb") as stream:
        PIL.Image.fromarray(picture.numpy()).save(stream, format="PNG")
