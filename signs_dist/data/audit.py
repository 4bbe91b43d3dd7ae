"""Find faults in a data set: broken files, names without a label, missing classes, one image in two splits.

python -m signs_dist.data.audit data/64x64_SIGNS        # a data set, or photos not built yet: a folder or a zip

Exit codes: 0: no problems (duplicates within a class are only a warning); 1: problems; 2: not a data set.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.console.command import (
    MOST_PROCESSES,
    CommandParser,
    add_max_megapixels,
    checked_megapixels,
    run_command,
    whole_number,
)
from signs_dist.data.folder import sorted_classes
from signs_dist.data.images import MAX_MEGAPIXELS, BadImageError, load_rgb
from signs_dist.data.names import SPLITS, printable
from signs_dist.data.photos.sources import SourceImage, SourceReader
from signs_dist.data.problems import MAX_LISTED, BadFile, bad_lines, listed, shown_list
from signs_dist.data.sources.arrangement import read_source
from signs_dist.data.workers import run_batches
from signs_dist.errors import EXIT_FAILED, EXIT_OK
from signs_dist.monitoring.plain_text import one_line

if TYPE_CHECKING:
    from signs_dist.console.screen import Screen

_DIGEST_SIZE = 64


@dataclass(frozen=True)
class Duplicates:
    """Groups of paths whose images are equal."""

    across: tuple[tuple[str, ...], ...]
    """In more than one split: the model is evaluated on an image that it has learned."""
    within: tuple[tuple[str, ...], ...]
    """In one split: the image counts twice."""
    conflicting: tuple[tuple[str, ...], ...] = ()
    """In more than one class, in one split or several: all labels but one are wrong."""


@dataclass(frozen=True)
class Audit:
    """What was found."""

    counts: dict[str, dict[str, int]]
    """Images of each class in each split."""
    bad: tuple[BadFile, ...]
    missing: tuple[tuple[str, str], ...]
    """(split, class) pairs without an image, where another split has images of the class."""
    single: tuple[str, ...]
    """Classes of one photo, copies counted once, of a source without val images: train and val each need one."""
    duplicates: Duplicates
    outside: tuple[str, ...] = ()
    """Images outside the split folders: not part of the data set."""
    notes: tuple[str, ...] = ()
    """What was passed over, and what else a user should know. A line each."""
    problems: tuple[str, ...] = ()
    """Class folders without an image that can be read; a single class. A line each."""

    @property
    def has_problems(self) -> bool:
        """Whether the data set needs repair before training.

        Duplicates within a class and classes without test images do not.
        """
        is_incomplete = any(split != "test" for split, _ in self.missing)
        return bool(self.bad or self.problems or self.single or self.duplicates.conflicting) or is_incomplete


def audit(
    source: Path,
    *,
    processes: int | None = None,
    screen: Screen | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Audit:
    """Decode all images of a data set, and compare them.

    Args:
        source: a folder, a zip or a table.
        processes: worker processes. None: all usable cores.
        screen: shows the progress. None: shows nothing.
        max_megapixels: larger images are problems.

    Raises:
        UserError: the source holds no images in a known layout.
    """
    _, arrangement = read_source(source)
    if screen is None:
        from signs_dist.console.screen import Screen

        screen = Screen(is_terminal=False, quiet=True)
    names = [image.file.path for image in arrangement.images]
    bad = [BadFile(path, reason) for path, reason in arrangement.bad_names]
    digests: dict[str, str] = {}
    with screen.preparing() as report:
        for results in run_batches(
            functools.partial(_digest_batch, max_megapixels),
            names,
            resource=functools.partial(SourceReader, arrangement.root or source),
            processes=processes,
        ):
            for name, digest, reason in results:
                if reason is None:
                    digests[name] = digest
                else:
                    bad.append(BadFile(name, reason))
            report("reading images", len(digests) + len(bad) - len(arrangement.bad_names), len(names))
    usable = [image for image in arrangement.images if image.file.path in digests]
    counts = count_classes(usable)
    return Audit(
        counts=counts,
        bad=tuple(sorted(bad, key=lambda file: file.path)),
        missing=missing_classes(counts),
        single=() if "val" in counts else _single_classes(usable, digests),
        duplicates=find_duplicates(
            {image.file.path: (image.split or "all", digests[image.file.path]) for image in usable},
            {image.file.path: image.class_name for image in usable},
        ),
        outside=arrangement.outside,
        notes=arrangement.notes,
        problems=(*arrangement.problems, *_single_class(counts)),
    )


def count_classes(images: Sequence[SourceImage]) -> dict[str, dict[str, int]]:
    """Number of images of each class, for each split. A source without splits has the one split `all`."""
    classes = sorted_classes({image.class_name for image in images})
    present = {image.split or "all" for image in images}
    counts = {split: dict.fromkeys(classes, 0) for split in ("all", *SPLITS) if split in present}
    for image in images:
        counts[image.split or "all"][image.class_name] += 1
    return counts


def _single_classes(images: Sequence[SourceImage], digests: Mapping[str, str]) -> tuple[str, ...]:
    """The classes of which all training images are one photo."""
    photos: dict[str, set[str]] = {}
    for image in images:
        if image.split != "test":
            photos.setdefault(image.class_name, set()).add(digests[image.file.path])
    return sorted_classes({name for name, found in photos.items() if len(found) == 1})


def _single_class(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The problem that all images are in one class; none if there are several classes, or no images."""
    classes = sorted({name for row in counts.values() for name in row})
    if len(classes) != 1:
        return []
    return [f"all images are of the single class {printable(classes[0])}; a classifier needs images of two or more"]


def missing_classes(counts: Mapping[str, Mapping[str, int]]) -> tuple[tuple[str, str], ...]:
    """The (split, class) pairs without an image."""
    return tuple((split, name) for split, row in counts.items() for name, count in row.items() if count == 0)


def find_duplicates(images: Mapping[str, tuple[str, str]], classes: Mapping[str, str]) -> Duplicates:
    """Group the paths of equal images.

    Args:
        images: path → (split, digest of the pixels).
        classes: path → class.
    """
    groups: dict[str, list[str]] = {}
    for path in sorted(images):
        groups.setdefault(images[path][1], []).append(path)
    several = [tuple(paths) for paths in groups.values() if len(paths) > 1]
    across = [paths for paths in several if len({images[path][0] for path in paths}) > 1]
    return Duplicates(
        across=tuple(across),
        within=tuple(paths for paths in several if len({images[path][0] for path in paths}) == 1),
        conflicting=tuple(paths for paths in several if len({classes[path] for path in paths}) > 1),
    )


def duplicate_lines(duplicates: Duplicates, *, num_shown: int | None = None) -> list[str]:
    """Warnings about duplicates; no lines if there are none."""
    lines = []
    if duplicates.conflicting:
        lines.append(
            f"problem: {_images_are(duplicates.conflicting)} in more than one class. Keep the file in the right class:"
        )
        lines += shown_list([" = ".join(map(one_line, paths)) for paths in duplicates.conflicting], num_shown)
    if duplicates.across:
        lines.append(
            f"warning: {_images_are(duplicates.across)} in more than one split, so the accuracy there is too high:"
        )
        lines += shown_list([" = ".join(map(one_line, paths)) for paths in duplicates.across], num_shown)
    within = [paths for paths in duplicates.within if paths not in duplicates.conflicting]
    if within:
        lines.append(f"{_images_are(within)} in one split more than once:")
        lines += shown_list([" = ".join(map(one_line, paths)) for paths in within], num_shown)
    return lines


def _images_are(groups: Sequence[object]) -> str:
    return "1 image is" if len(groups) == 1 else f"{len(groups):,} images are"


def outside_lines(outside: Sequence[str], *, num_shown: int = 3) -> list[str]:
    """Lines on the images outside the split folders; none if there are none."""
    if not outside:
        return []
    number = f"{len(outside):,} image{' is' if len(outside) == 1 else 's are'}"
    return [
        f"warning: {number} outside the split folders and not used:",
        *shown_list([printable(p) for p in outside], num_shown),
    ]


def missing_lines(missing: Sequence[tuple[str, str]]) -> list[str]:
    """A line for each split that lacks classes, from (split, class) pairs."""
    names: dict[str, list[str]] = {}
    for split, name in missing:
        names.setdefault(split, []).append(name)
    return [
        f"{'warning' if split == 'test' else 'problem'}: {split} has no image of "
        f"{'class' if len(lacking) == 1 else f'{len(lacking):,} classes:'} {listed(lacking)}"
        for split, lacking in names.items()
    ]


def _digest_batch(
    max_megapixels: float, reader: SourceReader, names: Sequence[str]
) -> list[tuple[str, str, str | None]]:
    """In a worker: for each image (name, digest of the pixels, None), or (name, "", why it is bad)."""
    results: list[tuple[str, str, str | None]] = []
    for name in names:
        try:
            image = load_rgb(reader.read(name), name=name, size=_DIGEST_SIZE, max_megapixels=max_megapixels)
            results.append((name, hashlib.sha256(image.tobytes()).hexdigest(), None))
        except BadImageError as error:
            results.append((name, "", error.reason))
    return results


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m signs_dist.data.audit",
        description="Find broken files, names without a label, missing classes, and images in more than one split.",
        epilog="Exit codes: 0: no problems (duplicates within a class are only a warning). 1: problems. 2: not a data "
        "set.",
    )
    parser.add_argument("source", type=Path, help="a data set, or photos not built yet: a folder, a zip or a table")
    parser.add_argument(
        "--processes",
        type=whole_number(MOST_PROCESSES),
        metavar="N",
        help="worker processes (default: all usable cores)",
    )
    add_max_megapixels(parser)
    parser.add_argument("--all", action="store_true", help="name every file, however many have the same problem")
    parser.add_argument("--quiet", action="store_true", help="print problems only")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring. Raises UserError."""
    options = _parser().parse_args(arguments)
    max_megapixels = checked_megapixels(options.max_megapixels) or MAX_MEGAPIXELS
    from signs_dist.console.class_tables import count_table
    from signs_dist.console.screen import Screen
    from signs_dist.environment.context import is_watched

    screen = Screen(is_terminal=is_watched(), quiet=options.quiet)
    found = audit(options.source, processes=options.processes, screen=screen, max_megapixels=max_megapixels)
    screen.tables(lambda width: [count_table(found.counts, width)])
    for line in found.notes:
        screen.say(line)
    lines = outside_lines(found.outside)
    lines += [f"problem: {line}" for line in found.problems]
    lines += duplicate_lines(found.duplicates, num_shown=None if options.all else MAX_LISTED)
    lines += missing_lines(found.missing)
    if found.single:
        words = "1 class has" if len(found.single) == 1 else f"{len(found.single):,} classes have"
        lines.append(f"problem: {words} a single photo, too few for train and val: {listed(found.single)}")
    if found.bad:
        lines.append(f"problem: {len(found.bad):,} image{'' if len(found.bad) == 1 else 's'} cannot be used:")
        lines += bad_lines(found.bad, in_full=options.all)
    for line in lines:
        screen.result(line)
    num_images = sum(sum(row.values()) for row in found.counts.values())
    screen.say(
        f"{options.source}: {num_images:,} images read, {'problems found' if found.has_problems else 'no problems'}"
    )
    return EXIT_FAILED if found.has_problems else EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
