"""List the labelled photos of a folder that is not split, to evaluate all of them as one set."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signs_dist.data.folder import ImageIndex, labels_of_classes, sorted_classes
from signs_dist.data.photos.sources import arrange, list_source, require_usable
from signs_dist.data.problems import listed
from signs_dist.errors import UserError

ALL = "all"
"""The name of the set, in place of train, val or test."""


def index_unsplit(root: Path, classes: Sequence[str], run: Path) -> ImageIndex | None:
    """List the photos of class folders, or with labels in their names; None if the folder holds splits.

    Args:
        root: the folder.
        classes: those of the model. The photos may lack some of them.
        run: the run folder, for messages.

    Raises:
        UserError: there are no photos, a photo has no class, a class folder has files but no photo, or a class is not
            among `classes`.
    """
    arrangement = arrange(list_source(root), root)
    if any(image.split is not None for image in arrangement.images):
        return None
    if arrangement.bad_names and arrangement.layout == "class_folders":
        path, reason = arrangement.bad_names[0]  # it has a class, but a name that results cannot hold
        raise UserError(f"{root}: {path}: {reason}.")
    if arrangement.bad_names:
        raise UserError(_about_unlabelled(root, [path for path, _ in arrangement.bad_names], classes, run))
    require_usable(arrangement, root)
    images = sorted(arrangement.images, key=lambda image: image.file.path)
    label_of = labels_of_classes({image.class_name for image in images}, classes)
    unknown = sorted_classes({name for name, label in label_of.items() if label is None})
    if unknown:
        count = sum(image.class_name in unknown for image in images)
        raise UserError(
            f"{root}: class {listed(unknown)} is not among the model's classes {listed(classes)} "
            f"({count:,} {'image' if count == 1 else 'images'}). Move these images elsewhere, or give another folder."
        )
    return ImageIndex(
        root=root,
        split=ALL,
        classes=tuple(classes),
        paths=tuple(image.file.path for image in images),
        labels=np.array([label_of[image.class_name] for image in images], dtype=np.int64),
        notes=arrangement.notes,
    )


def _about_unlabelled(root: Path, paths: Sequence[str], classes: Sequence[str], run: Path) -> str:
    start = f"{root}: {len(paths):,} {'image has' if len(paths) == 1 else 'images have'} no class, such as {paths[0]}."
    if root.resolve().name in classes:
        return f"{start} The folder itself is that of a class: give the folder above, {root.resolve().parent}."
    return (
        f"{start} Put them into a folder for each class, such as {root / classes[0]}. "
        f"To predict their classes: python -m signs_dist.predict {shlex.quote(str(run))} {shlex.quote(str(root))}"
    )
