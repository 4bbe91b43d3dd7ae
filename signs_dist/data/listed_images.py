"""From a list of (path, class, split) to an index of each split: for images that lie in no folders of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from signs_dist.data.folder import ImageIndex, labels_of_classes, sorted_classes
from signs_dist.data.names import check_class_names, class_notes, listed
from signs_dist.data.readers import ImageReader
from signs_dist.errors import UserError


class ListedImage(NamedTuple):
    """An image: its path, unique, with forward slashes; its class; its split, one of train, val and test."""

    path: str
    class_name: str
    split: str


def index_listed(
    images: Sequence[ListedImage],
    root: Path,
    source: ImageReader,
    where: str,
    *,
    classes: Sequence[str] | None = None,
) -> dict[str, ImageIndex]:
    """The index of each split, with the classes of train. The order of the images is kept.

    Args:
        images: of all splits.
        root: what the paths are shown below.
        source: reads the images by their paths.
        where: names the data in errors.
        classes: the legal classes in the order of their labels; None: those of the train images, sorted.

    Raises:
        UserError: no train or no val images, fewer than two classes, or a class without images in train or val.
    """
    import numpy

    for split in ("train", "val"):
        if not any(image.split == split for image in images):
            raise UserError(f"{where} has no {split} images. Both train and val are needed; test is not.")
    check_class_names({image.class_name for image in images}, where)
    legal = tuple(classes) if classes is not None else sorted_classes({image.class_name for image in images})
    if len(legal) < 2:
        raise UserError(f"{where} has the single class {legal[0]!r}. A classifier needs images of two or more.")
    of_split = {split: [image for image in images if image.split == split] for split in ("train", "val", "test")}
    for split in ("train", "val"):
        missing = sorted(set(legal) - {image.class_name for image in of_split[split]})
        if missing:
            others = " or ".join(each for each in of_split if of_split[each] and each != split)
            raise UserError(
                f"{where} has no {split} image of class {listed(missing)}. Give each class images in train and in val: "
                f"move some from {others}, or leave the class out."
            )
    number_of = labels_of_classes({image.class_name for image in images}, legal)
    unknown = [image for image in images if number_of[image.class_name] is None]
    if unknown:
        raise UserError(
            f"{where}: {unknown[0].path} is of class {unknown[0].class_name!r}, which is not in its classes."
        )
    notes = tuple(class_notes(legal))
    return {
        split: ImageIndex(
            root=root,
            split=split,
            classes=legal,
            paths=tuple(image.path for image in chosen),
            labels=numpy.array([number_of[image.class_name] for image in chosen], dtype=numpy.int64),
            notes=notes,
            source=source,
        )
        for split, chosen in of_split.items()
        if chosen
    }


def with_classes(index: ImageIndex, classes: Sequence[str], where: str) -> ImageIndex:
    """The index with the labels of other classes, such as those of a trained model, which must have all of its classes.

    Raises:
        UserError: it has images of another class.
    """
    import dataclasses

    import numpy

    numbers: Mapping[str, int | None] = labels_of_classes(index.classes, classes)
    used = {index.classes[label] for label in set(index.labels.tolist())}
    if unknown := sorted(name for name in used if numbers[name] is None):
        raise UserError(f"{where} has images of class {listed(unknown)}, which is not one of {listed(list(classes))}.")
    table = numpy.array([numbers[name] if numbers[name] is not None else -1 for name in index.classes], numpy.int64)
    return dataclasses.replace(index, classes=tuple(classes), labels=table[index.labels])
