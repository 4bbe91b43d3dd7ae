"""Images decoded once into one memory-mapped file, so that training reads pixels instead of JPEGs.

A packed split is a folder `<split>-<side>-<key>` with `pixels.npy` (uint8 [N, side, side, 3]) and its digest in
`packed.json`. The key depends on the names, sizes and times of the image files: after a change, the split is packed
again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from signs_dist.data.folder import ImageIndex
from signs_dist.data.images import MAX_MEGAPIXELS, load_rgb
from signs_dist.data.locks import locked
from signs_dist.errors import UserError
from signs_dist.files import explained, umask, write_json

PACKED_VERSION = 2
"""Raise it when the same files would give other pixels."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PackedSplit:
    """One split in memory-mapped form.

    Attributes:
        pixels: uint8 [N, side, side, 3], memory-mapped, read-only, one row for each path of the index.
        labels: int64 [N].
        classes: class names in the order of their labels.
        digest: SHA-256 (hex) of the pixels: the same photos have the same digest on every machine.
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    digest: str


def open_packed(
    index: ImageIndex,
    image_size: int,
    cache: Path,
    *,
    num_threads: int,
    on_progress: Progress | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    tell: Callable[[str], None] | None = None,
) -> PackedSplit:
    """Open the packed form of `index`. If it is missing or damaged, make it first.

    Several processes may call this at once: one packs under a lock, and the others wait and then open the result. A
    whole pack is opened without a lock, and needs no permission to write.

    Args:
        index: the images of one split.
        image_size: side in pixels; images of another size are resized.
        cache: folder for packed splits.
        num_threads: images decoded at once.
        on_progress: called with (images done, images in all) while packing.
        max_megapixels: larger images are refused.
        tell: gets a line when this waits long for another process, or for storage; None: standard error.

    Raises:
        BadImageError: an image cannot be decoded. The error names it; no part of the pack is left.
        UserError: the cache cannot be written, or the disk is full.
    """
    folder = cache / f"{index.split}-{image_size}-{cache_key(index)[:16]}"
    with contextlib.suppress(PermissionError):  # of a folder above it, which is told when it has to be written
        if cache.exists() and not cache.is_dir():
            raise UserError(f"data.cache={cache} is a file. Choose a folder; it is created if it is missing.")
    # A whole pack needs no lock, which a cache of another user may not let this process take.
    digest = _intact_digest(folder, len(index), image_size)
    if digest is None:
        digest = _pack_locked(index, image_size, folder, num_threads, on_progress, max_megapixels, tell)
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    return PackedSplit(pixels, index.labels, index.classes, digest)


def _pack_locked(
    index: ImageIndex,
    image_size: int,
    folder: Path,
    num_threads: int,
    on_progress: Progress | None,
    max_megapixels: float,
    tell: Callable[[str], None] | None,
) -> str:
    """Pack under a lock, unless another process has done so meanwhile. Returns the digest of the pixels."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / f"{folder.name}.lock", "packs these images", tell=tell):
            digest = _intact_digest(folder, len(index), image_size)
            if digest is not None:
                return digest
            return _pack(index, image_size, folder, num_threads, on_progress, max_megapixels)
    except OSError as error:
        described = explained(error, folder)
        if isinstance(described, UserError):
            raise UserError(f"{described} Type: data.cache=FOLDER") from error
        raise


def cache_key(index: ImageIndex) -> str:
    """SHA-256 (hex) over names, labels, sizes and times of the files of a split; no file is opened."""
    hasher = hashlib.sha256(f"{PACKED_VERSION} {index.split} {index.classes}".encode())
    for path, label, (num_bytes, stamp) in zip(index.paths, index.labels.tolist(), index.all_stamps(), strict=True):
        line = f"{path}\0{label}\0{num_bytes}\0{stamp}\n"
        hasher.update(os.fsencode(line))  # a name need not be UTF-8
    return hasher.hexdigest()


def _intact_digest(folder: Path, num_images: int, image_size: int) -> str | None:
    """The digest of a packed split that is complete and undamaged, else None."""
    header = _npy_header((num_images, image_size, image_size, 3))
    try:
        stated = json.loads((folder / "packed.json").read_text(encoding="utf-8"))["sha256"]
        # Compared, not parsed: on a damaged header, numpy's parser raises many kinds of errors.
        with (folder / "pixels.npy").open("rb") as stream:
            if stream.read(len(header)) != header:
                return None
        pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    except (OSError, ValueError, KeyError, TypeError):
        return None  # missing or incomplete: it is packed again
    return str(stated) if pixel_digest(pixels) == stated else None


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """The bytes before the pixels in a .npy file of uint8 pixels."""
    header = io.BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)
    return header.getvalue()


def pixel_digest(pixels: npt.NDArray[np.uint8]) -> str:
    """SHA-256 (hex) of the bytes of an array, read in pieces of bounded size."""
    hasher = hashlib.sha256(str(pixels.shape).encode())
    rows_per_piece = max(1, 2**24 // max(1, pixels[:1].nbytes))
    for start in range(0, len(pixels), rows_per_piece):
        hasher.update(np.ascontiguousarray(pixels[start : start + rows_per_piece]).data)
    return hasher.hexdigest()


def _pack(
    index: ImageIndex,
    image_size: int,
    folder: Path,
    num_threads: int,
    on_progress: Progress | None,
    max_megapixels: float,
) -> str:
    """Decode all images into a temporary folder, rename it to `folder`, and return the digest of the pixels."""
    _remove_leftovers(folder)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    try:
        shape = (len(index), image_size, image_size, 3)
        target = np.lib.format.open_memmap(aside / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
        _reserve(aside / "pixels.npy")

        def decode(row: int) -> None:
            path = index.paths[row]
            image = load_rgb(
                index.reader.read(path), name=index.full_name(path), size=image_size, max_megapixels=max_megapixels
            )
            target[row] = np.asarray(image)

        with ThreadPoolExecutor(num_threads) as pool:
            try:
                for done, _ in enumerate(pool.map(decode, range(len(index))), 1):
                    if on_progress is not None:
                        on_progress(done, len(index))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        target.flush()
        digest = pixel_digest(target)
        write_json(aside / "packed.json", {"version": PACKED_VERSION, "sha256": digest, "num_images": len(index)})
        aside.chmod(0o777 & ~umask())  # mkdtemp's folders are private
        shutil.rmtree(folder, ignore_errors=True)  # damaged, if it exists
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return digest


def _reserve(path: Path) -> None:
    """Allocate the file's blocks on disk now: on a full disk, writing to a memory map kills the process (SIGBUS)."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left while packing `folder`. The caller holds the lock, so none is packing it."""
    for leftover in folder.parent.glob(f".{folder.name}.*.part"):
        shutil.rmtree(leftover, ignore_errors=True)
