"""The class of each image of a split: from the folder below the split's, or from the image's name.

A million images lie in a few folders: what a folder tells is worked out once, for all images in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from signs_dist.data.listing import Listing
from signs_dist.data.names import is_mere_container, label_of_name, same_class, split_of_folder

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class FoundClasses:
    """The class of each of N images.

    Attributes:
        names: as the folders or files write them, each once.
        name_of: [N], the number of each image's name in `names`.
        class_of: name → class: names in two spellings are one class.
    """

    names: tuple[str, ...]
    name_of: NDArray[numpy.int64]
    class_of: Mapping[str, str]

    @property
    def has_other_spellings(self) -> bool:
        """Whether a name is written otherwise than its class."""
        return any(name != spelling for spelling, name in self.class_of.items())

    def labels(self, number_of: Mapping[str, int]) -> NDArray[numpy.int64]:
        """The label of each image, int64 [N]. `number_of`: of each class."""
        import numpy

        table = numpy.array([number_of[self.class_of[name]] for name in self.names], dtype=numpy.int64)
        return table[self.name_of]

    def count_of(self, classes: Collection[str]) -> tuple[int, int]:
        """(number of images of some classes, the first of them). There must be one."""
        import numpy

        wanted = numpy.array([self.class_of[name] in classes for name in self.names])[self.name_of]
        return int(wanted.sum()), int(wanted.argmax())

    def order_of_one_spelling(self, paths: Sequence[str], top: str) -> list[int]:
        """The numbers of the images in the order of a set whose folders have one spelling."""

        def key(number: int) -> str:
            name = self.names[self.name_of[number]]
            return self.class_of[name] + paths[number][len(top) + len(name) :]

        return sorted(range(len(paths)), key=key)


def inner_folder(listing: Listing, split: str, classes: Sequence[str] | None) -> str:
    """The one folder in which all images of a split lie though it is no class, with its slash, or empty.

    It has the split's name again (seg_train/seg_train/), or a name such as images with the classes below it.
    """
    name = listing.folders[0].partition("/")[0]
    if not name or not all(folder == name or folder.startswith(f"{name}/") for folder in listing.folders):
        return ""
    is_container = (
        is_mere_container(name)
        and name not in (classes or ())
        and all(label_of_name(each) is not None for each in _names_in(listing, name))
    )
    return f"{name}/" if split_of_folder(name) == split or is_container else ""


def _names_in(listing: Listing, folder: str) -> Iterator[str]:
    """The names of the images that lie in a folder themselves."""
    for number in images_in(listing, folder):
        yield listing.images[int(number)].rpartition("/")[2]


def images_in(listing: Listing, folder: str) -> NDArray[numpy.int64]:
    """The numbers of the images that lie in a folder themselves."""
    import numpy

    if folder not in listing.folders:
        return numpy.zeros(0, numpy.int64)
    return numpy.flatnonzero(listing.folder_of == listing.folders.index(folder))


def images_outside_folders(listing: Listing, top: str) -> NDArray[numpy.int64]:
    """The numbers of the images that lie in no folder below `top`."""
    return images_in(listing, top.rstrip("/"))


def has_class_names(listing: Listing, top: str) -> bool:
    """Whether the first image lies in a folder below `top`."""
    return "/" in listing.images[0][len(top) :]


def classes_of_folders(listing: Listing, top: str) -> FoundClasses:
    """The class of each image by the folder below `top`; each image lies in one."""
    import numpy

    of_folder = [folder[len(top) :].partition("/")[0] for folder in listing.folders]
    names = tuple(dict.fromkeys(of_folder))
    number_of = {name: number for number, name in enumerate(names)}
    table = numpy.array([number_of[name] for name in of_folder], dtype=numpy.int64)
    return FoundClasses(names, table[listing.folder_of], same_class(set(names)))


def classes_of_names(listing: Listing, top: str) -> tuple[FoundClasses, list[str]]:
    """(the class of each image by its name; the names below `top` that tell none)."""
    import numpy

    unlabelled: list[str] = []
    number_of: dict[str, int] = {}
    numbers = numpy.zeros(len(listing.images), numpy.int64)
    known: dict[str, str | None] = {}
    for place, path in enumerate(listing.images):
        name = path[len(top) :]
        beginning = name[: name.find("_") + 1]  # a label ends with its underscore
        if beginning not in known:
            known[beginning] = label_of_name(name)
        label = known[beginning]
        if label is None:
            unlabelled.append(name)
        else:
            numbers[place] = number_of.setdefault(label, len(number_of))
    return FoundClasses(tuple(number_of), numbers, same_class(set(number_of))), unlabelled
