"""Images from code of the user's own: `data.reader=package.module:make`.

`make(**data.reader_args)` gives an object with two methods:

    images()    → an iterable of (name, class name, split), one for each image; split is train, val or test, or None
                  where the images are to be divided
    read(name)  → the image: bytes of a file, a Path, a PIL image, or a uint8 array [H, W, 3] or [H, W]

and may have a third:

    stamp(name) → text or a number that changes when the image may have changed

Names are paths with forward slashes. `make` is called once in each process that reads, so the object may keep an open
file or a connection; `read` and `stamp` are called by several threads of a process at once. Without `stamp` decoded
images are kept by the reader's name and arguments and by the images' names and classes alone: after a change of the
images themselves, remove them from `data.cache`.
"""

from __future__ import annotations

import io
import itertools
import os
import threading
from collections.abc import Iterable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from signs_dist.data.folder import ImageIndex
from signs_dist.data.images import BadImageError
from signs_dist.data.listed_images import ListedImage, index_listed
from signs_dist.data.names import check_class_names, is_printable, printable, split_of_folder
from signs_dist.data.sources.collection import Collection, Photo
from signs_dist.errors import UserError
from signs_dist.own_code import call_own, failures_told, find_own


class OwnReader:
    """Reads images through the user's object. It is pickled as its name and arguments, and made again where it is read.

    Raises:
        UserError: the object cannot be made, or has no method `images` or `read`.
    """

    def __init__(self, name: str, args: Mapping[str, Any]) -> None:
        self.name, self.args = name, dict(args)
        self._lock = threading.Lock()
        self._made_in = -1
        self._made: Any = None
        self.made()

    def __reduce__(self) -> tuple[type[OwnReader], tuple[str, dict[str, Any]]]:
        return type(self), (self.name, self.args)

    @property
    def what(self) -> str:
        """The setting, for messages."""
        return f"data.reader={self.name}"

    def made(self) -> Any:
        """The user's object of this process: a connection does not outlive a fork."""
        with self._lock:
            if self._made_in != os.getpid():
                function = find_own("data.reader", self.name)
                made = call_own(
                    "data.reader", self.name, function, given={}, args=self.args, args_setting="data.reader_args"
                )
                for method in ("images", "read"):
                    if not callable(getattr(made, method, None)):
                        raise UserError(
                            f"{self.what} gives a {type(made).__name__} without a method {method}. It must have "
                            f"images() → (name, class name, split) of each image, and read(name) → the image."
                        )
                self._made, self._made_in = made, os.getpid()
            return self._made

    def read(self, path: str) -> Path | bytes:
        """The image called `path`, as `ImageReader.read`.

        Raises:
            BadImageError: the user's code fails, or gives something else.
        """
        try:
            with failures_told(self.what, f"reads {path!r}"):
                image = self.made().read(path)
            return _as_file(image)
        except BadImageError:
            raise
        except (UserError, TypeError) as error:
            raise BadImageError(path, str(error).rstrip(".")) from error

    def stamp(self, path: str) -> tuple[int, str]:
        """(0, a text of the reader, its arguments, and what the user's `stamp` gives), as `ImageReader.stamp`."""
        stamp = getattr(self.made(), "stamp", None)
        with failures_told(self.what, f"stamps {path!r}"):
            return 0, f"{self.name} {self.args} {stamp(path) if stamp is not None else ''}"


def list_own_reader(name: str, args: Mapping[str, Any]) -> tuple[OwnReader, Collection]:
    """A reader, and the images that it lists, sorted by name.

    Args:
        name: `data.reader`.
        args: `data.reader_args`.

    Raises:
        UserError: the reader fails, or what it lists is no data set. The message names the reader and the image.
    """
    reader = OwnReader(name, args)
    with failures_told(reader.what, "lists its images"):
        photos = sorted(_listed(reader.made().images(), reader.what), key=itemgetter(0))
    if not photos:
        raise UserError(f"{reader.what}: images() gives no image.")
    for before, after in itertools.pairwise(photos):
        if before.path == after.path:
            raise UserError(f"{reader.what}: images() gives {after.path!r} twice. Names must differ.")
    check_class_names({photo.class_name for photo in photos}, reader.what)
    return reader, Collection(Path(name), photos)


def index_own_reader(reader: OwnReader, found: Collection) -> dict[str, ImageIndex]:
    """The index of each split of images that are split. Raises `UserError` if they are no data set."""
    images = [ListedImage(photo.path, photo.class_name, photo.split) for photo in found.photos if photo.split]
    return index_listed(images, found.root, reader, reader.what)


def _listed(entries: Any, what: str) -> Iterable[Photo]:
    for entry in entries:
        if not isinstance(entry, (tuple, list)) or len(entry) != 3:
            raise UserError(f"{what}: images() gives {entry!r}. It must give (name, class name, split) for each image.")
        path, class_name, split = entry
        if not _is_name(path):
            raise UserError(
                f"{what}: images() gives the name {path!r}. A name is a path with forward slashes, such as cat/1.jpg, "
                f"without .. and not from / on."
            )
        if not isinstance(class_name, str) or not class_name or not is_printable(class_name):
            raise UserError(f"{what}: images() gives the class {class_name!r} for {path}. A class is a text.")
        known = split_of_folder(split) if isinstance(split, str) else None
        if known is None and split is not None:
            raise UserError(
                f"{what}: images() gives the split {split!r} for {path}. Give train, val or test; or None for all "
                f"images: they are then divided."
            )
        yield Photo(path, class_name, known)


def _is_name(path: Any) -> bool:
    if not isinstance(path, str) or path != printable(path) or "\\" in path:
        return False
    return all(part not in ("", ".", "..") for part in path.split("/"))


def _as_file(image: Any) -> Path | bytes:
    """Bytes and paths as they are; pixels as a PNG, which loses nothing. Raises TypeError for anything else."""
    if isinstance(image, (bytes, Path)):
        return image
    if isinstance(image, (bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, str):
        return Path(image)
    import numpy
    import PIL.Image
    import PIL.ImageOps

    if isinstance(image, numpy.ndarray):
        is_image = image.dtype == numpy.uint8 and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3))
        if not is_image:
            raise TypeError(f"read gives an array of {image.dtype} {list(image.shape)}, not of uint8 [H, W, 3]")
        image = PIL.Image.fromarray(image)
    if not isinstance(image, PIL.Image.Image):
        given = "nothing (None)" if image is None else f"a {type(image).__name__}"
        raise TypeError(f"read gives {given}, not bytes, a Path, a PIL image, or a uint8 array [H, W, 3]")
    upright = PIL.ImageOps.exif_transpose(image)
    if upright.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        upright = upright.convert("RGB")
    stream = io.BytesIO()
    upright.save(stream, "PNG", compress_level=1)
    return stream.getvalue()
