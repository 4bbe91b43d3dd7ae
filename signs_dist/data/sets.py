"""Choose the data set of a run and open its splits: images if there are any, else drawn hands."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch.utils.data import Dataset

from signs_dist.config.settings import AugmentConfig, DataConfig, SyntheticConfig
from signs_dist.data.bad_images import inspection_advised
from signs_dist.data.batches import Batch, FileBatches, PackedBatches, Resize, build_transform
from signs_dist.data.device_batches import DeviceBatches
from signs_dist.data.file_crops import FileCrop
from signs_dist.data.folder import ImageIndex, index_data_set, set_notes
from signs_dist.data.kept_listing import KeptListings, remember
from signs_dist.data.next_step import find_stored_size
from signs_dist.data.other_sources import open_other_source
from signs_dist.data.packed import open_packed
from signs_dist.data.sources.opening import open_roots, refuse_columns, refuse_division
from signs_dist.errors import UserError

DEFAULT_ROOT = Path("data/64x64_SIGNS")
"""The photos of a run without `data.root`; `python -m signs_dist.data.build` writes them there."""

_NUM_AT_ONCE = 10_000
"""Names whose text is made at once for a fingerprint: that of a million would take more than the names themselves."""

Report = Callable[[str, int, int], None]
"""Called with (the work in progress, images done, images in all)."""


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The images of a run.

    Attributes:
        name: `synthetic` for drawn images, else the folder as it was given.
        root: the folder that all paths begin at.
        splits: the index of each split that exists.
        notes: what a user should know of the folder, such as what was passed over. A line each.
        stored_size: side in pixels of the images of a set that `build` made; None if it is not known.
        sources: the folders and tables that `data.root` names; the single `root` for most.
        division: name → split of the images that were divided; None where the data say their splits.
    """

    name: str
    root: Path
    splits: Mapping[str, ImageIndex]
    notes: tuple[str, ...] = ()
    stored_size: int | None = None
    sources: tuple[Path, ...] = ()
    division: Mapping[str, str] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their labels."""
        return self.splits["train"].classes

    @property
    def num_images(self) -> int:
        """The images of all splits."""
        return sum(len(index) for index in self.splits.values())

    def inspection_advised(self) -> contextlib.AbstractContextManager[None]:
        """While it lasts, an error on an image that cannot be read says how to find all, and train without them."""
        return inspection_advised(self.sources, self.splits["train"].reader)


def open_data_set(
    config: DataConfig,
    *,
    num_processes: int,
    report: Report,
    division: Path | None = None,
    tell: Callable[[str], None] | None = None,
    since: float | None = None,
) -> DataSet:
    """Find the data set of `config` and index its splits, drawing the synthetic one if it is needed and missing.

    Args:
        config: the data section.
        num_processes: worker processes for drawing.
        report: called with the progress.
        division: of a run that has begun: the copy of the division in its folder, if it has one.
        tell: gets a line when this waits long for another process; None: standard error.
        since: as in `KeptListings`.

    Raises:
        UserError: `data.root` is missing, empty, or not a data set; or it cannot be divided.
    """
    roots = choose_data_roots(config.root, default_exists=DEFAULT_ROOT.is_dir())
    if config.root is None and roots and config.reader is None and config.synthetic != SyntheticConfig():
        raise UserError(
            f"data.synthetic is read where hands are drawn, and {roots[0]} exists and is used. Delete data.synthetic, "
            f"or start the command in another folder."
        )
    other = open_other_source(config, roots, copy=division, report=report, tell=tell)
    if other is not None:
        if config.reader is None:
            _refuse_unread_by_shards(config, other.root)
        size = find_stored_size(other.root)
        return DataSet(other.name, other.root, other.splits, other.notes, size, (other.root,), other.division)
    if not roots:
        refuse_columns(config, "the drawn set")
        refuse_division(config, "the drawn set")
        root = prepare_synthetic(config, num_processes=num_processes, report=report)
        splits = index_data_set(root)
        return DataSet("synthetic", root, splits, set_notes(root, splits), find_stored_size(root), (root,))
    keep = KeptListings(Path(config.cache), since, tell)
    found = open_roots(config, roots, copy=division, report=report, tell=tell, keep=keep)
    name = " + ".join(map(str, roots))
    is_as_it_is = len(roots) == 1 and roots[0].is_dir() and found.division is None
    sources = (found.root,) if is_as_it_is else roots  # the folder of the splits may lie one folder down
    return DataSet(name, found.root, found.splits, found.notes, find_stored_size(found.root), sources, found.division)


def _refuse_unread_by_shards(config: DataConfig, root: Path) -> None:
    refuse_columns(config, str(root), has_label=True)
    if config.label_pattern is not None:
        raise UserError(
            f"data.label_pattern finds the class in the paths of files, and {root} holds tar shards, whose members "
            f"tell it. Delete data.label_pattern."
        )


def choose_data_roots(given: str | Sequence[str] | None, *, default_exists: bool) -> tuple[Path, ...]:
    """The folders and tables to read; none for the synthetic set. What is given is never replaced by another."""
    if given is None:
        return (DEFAULT_ROOT,) if default_exists else ()
    return tuple(_expanded(each) for each in ((given,) if isinstance(given, str) else given))


def _expanded(given: str) -> Path:
    try:
        return Path(given).expanduser()
    except RuntimeError:  # ~name of a user who does not exist
        return Path(given)


def will_draw(config: DataConfig) -> bool:
    """Whether `open_data_set` would draw the synthetic set, which takes minutes, because it does not exist yet."""
    roots = choose_data_roots(config.root, default_exists=DEFAULT_ROOT.is_dir())
    return not roots and config.reader is None and not _synthetic_root(config)[0].exists()


def prepare_synthetic(config: DataConfig, *, num_processes: int, report: Report, below: Path = Path()) -> Path:
    """The folder of the synthetic set of `config`, in `data/` of the folder `below`; drawn if it is missing."""
    from signs_dist.data.synthetic import write_synthetic_set

    root, counts = _synthetic_root(config)
    root = below / root
    write_synthetic_set(
        root,
        image_size=config.image_size,
        counts=counts,
        seed=config.synthetic.seed,
        num_processes=num_processes,
        on_progress=lambda done, total: report("drawing synthetic hands", done, total),
    )
    return root


def _synthetic_root(config: DataConfig) -> tuple[Path, dict[str, int]]:
    """The folder of the synthetic set of `config`, and the number of images of each split."""
    from signs_dist.data.synthetic import default_root

    drawing = config.synthetic
    counts = {"train": drawing.train, "val": drawing.val, "test": drawing.test}
    return default_root(config.image_size, counts, drawing.seed), counts


def open_split(
    index: ImageIndex,
    config: DataConfig,
    *,
    num_threads: int,
    report: Report,
    augment: AugmentConfig | None = None,
    seed: int = 0,
    tell: Callable[[str], None] | None = None,
    exact: bool = False,
    device: torch.device | None = None,
) -> tuple[Dataset[Batch], str]:
    """The batches of a split, packed, on the device or from files, and its fingerprint.

    Args:
        index: the split.
        config: the data section.
        num_threads: images decoded at once while packing.
        report: called with the progress.
        augment: for training images: its torchvision transforms are applied to each image, and its crops of files.
            None: the images as they are.
        seed: the run's seed, for what `augment` draws.
        tell: gets a line when this waits long for another process; None: standard error.
        exact: whether the run is exact, for `data.resize=auto`.
        device: holds the images for `data.storage=device`. None: it is not worth it, as for a single pass over them;
            they are read from the packed file, with the same bits.

    Returns:
        (data set, fingerprint): the fingerprint is a SHA-256 over pixels, labels and names if packed, else over names,
        labels and file sizes.
    """
    transform = None
    if augment is not None and augment.backend == "torchvision":
        transform = build_transform(augment.transforms, config.image_size)
    if config.storage == "files":
        resize = choose_resize(config.resize, exact=exact)
        crop = FileCrop.of(augment) if augment is not None else None
        limit = config.max_megapixels
        batches = FileBatches(index, config.image_size, transform, seed, limit, resize=resize, crop=crop)
        return batches, _fingerprint_of_files(index)
    packed = open_packed(
        index,
        config.image_size,
        Path(config.cache),
        num_threads=num_threads,
        on_progress=lambda done, total: report(f"packing {index.split} images", done, total),
        max_megapixels=config.max_megapixels,
        tell=tell,
    )
    fingerprint = _fingerprint(index, [packed.digest])
    if config.storage == "device" and device is not None:
        assert transform is None  # refused by the settings
        return DeviceBatches(packed, device), fingerprint
    return PackedBatches(packed, transform, seed), fingerprint


def choose_resize(wanted: Literal["auto", "pillow", "torch"], *, exact: bool) -> Resize:
    """Who resizes the images of `data.storage=files`: in exact mode as packed images are, else the faster one."""
    if wanted == "auto":
        return "pillow" if exact else "torch"
    return wanted


def _fingerprint_of_files(index: ImageIndex) -> str:
    """SHA-256 (hex) over names, labels and file sizes. For a kept listing it is kept too."""
    facts = repr(index.classes).encode("utf-8", "surrogateescape") + hashlib.sha256(index.labels.data).digest()
    return remember(index.paths, facts, lambda: _fingerprint(index, (str(size) for size, _ in index.all_stamps())))


def _fingerprint(index: ImageIndex, contents: Iterable[str]) -> str:
    hasher = hashlib.sha256(f"({index.classes!r}, ".encode())
    for values in (index.labels.tolist(), index.paths, contents):
        hasher.update(b"[")
        for number, some in enumerate(_batched(values, _NUM_AT_ONCE)):
            hasher.update(f"{', ' if number else ''}{repr(some)[1:-1]}".encode())
        hasher.update(b"]" if values is contents else b"], ")
    hasher.update(b")")
    return hasher.hexdigest()


def _batched(values: Iterable[object], size: int) -> Iterator[list[object]]:
    """Lists of `size` values; the last may be shorter."""
    rest = iter(values)
    while some := list(itertools.islice(rest, size)):
        yield some
