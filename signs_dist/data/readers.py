"""Where the bytes of images come from: files below a folder, or anything else with the two methods of `ImageReader`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from signs_dist.data.images import DEAD_LINK, BadImageError
from signs_dist.errors import UserError


class ImageReader(Protocol):
    """Reads the images of an `ImageIndex` by its paths. It is pickled into loader workers, and called by several
    threads at once."""

    def read(self, path: str) -> Path | bytes:
        """The image at a path of the index: a file, or the content of one.

        Raises:
            BadImageError: it cannot be read.
        """
        ...

    def stamp(self, path: str) -> tuple[int, str]:
        """(number of bytes, text that changes when the content may have changed), without reading the image.

        Raises:
            UserError: it was there when the images were listed, and is no more.
            BadImageError: it cannot be read.
        """
        ...


class FolderReader:
    """Images that are files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> Path:
        """The file."""
        return self.root / path

    def stamp(self, path: str) -> tuple[int, str]:
        """Size and times of the file."""
        file = self.root / path
        try:
            status = file.stat()
        except FileNotFoundError as error:
            if file.is_symlink():
                raise BadImageError(str(file), DEAD_LINK) from error
            raise UserError(
                f"cannot read {file}: {error.strerror}. It was there when the run began: repeat the command."
            ) from error
        except OSError as error:
            raise BadImageError(str(file), str(error.strerror).lower()) from error
        return status.st_size, file_stamp(status.st_mtime_ns, status.st_ctime_ns)


def file_stamp(mtime_ns: int, ctime_ns: int) -> str:
    """A text of a file's times that changes when its content may have changed."""
    # A program cannot set the change time (ctime): it shows even an edit that restores the modification time.
    return f"{mtime_ns}\0{ctime_ns}"
