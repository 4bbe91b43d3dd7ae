"""Find faults in a data set: broken files, names without a label, missing classes, one image in two splits.

python -m signs_dist.data.audit data/64x64_SIGNS        # a data set, or photos not built yet: a folder or a zip

Exit codes: 0: no problems (duplicates are only a warning); 1: problems; 2: the source is not a data set.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.console.command import MOST_PROCESSES, CommandParser, run_command, whole_number
from signs_dist.data.folder import SPLIT_FOLDERS, sorted_classes
from signs_dist.data.images import BadImageError, load_rgb
from signs_dist.data.photos.sources import SourceImage, SourceReader, arrange, list_source
from signs_dist.data.workers import run_batches
from signs_dist.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from rich.table import Table

    from signs_dist.console.screen import Screen

_DIGEST_SIZE = 64


@dataclass(frozen=True)
class BadFile:
    """An image that cannot be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Duplicates:
    """Groups of paths whose images are equal."""

    across: tuple[tuple[str, ...], ...]
    """In more than one split: the model is evaluated on an image that it has learned."""
    within: tuple[tuple[str, ...], ...]
    """In one split: the image counts twice."""


@dataclass(frozen=True)
class Audit:
    """What was found."""

    counts: dict[str, dict[str, int]]
    """Images of each class in each split."""
    bad: tuple[BadFile, ...]
    missing: tuple[tuple[str, str], ...]
    """(split, class) pairs without an image, where another split has images of the class."""
    duplicates: Duplicates

    @property
    def has_problems(self) -> bool:
        """Whether the data set needs repair before training. Duplicates and classes without test images do not."""
        return bool(self.bad) or any(split != "test" for split, _ in self.missing)


def audit(source: Path, *, processes: int | None = None, screen: Screen | None = None) -> Audit:
    """Decode all images of a data set, and compare them.

    Args:
        source: a folder or a zip.
        processes: worker processes. None: all usable cores.
        screen: shows the progress. None: shows nothing.

    Raises:
        UserError: the source holds no images in a known layout.
    """
    arrangement = arrange(list_source(source), source)
    if screen is None:
        from signs_dist.console.screen import Screen

        screen = Screen(is_terminal=False, quiet=True)
    names = [image.file.path for image in arrangement.images]
    bad = [BadFile(path, reason) for path, reason in arrangement.bad_names]
    digests: dict[str, str] = {}
    with screen.preparing() as report:
        for results in run_batches(
            _digest_batch, names, resource=functools.partial(SourceReader, source), processes=processes
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
        duplicates=find_duplicates(
            {image.file.path: (image.split or "all", digests[image.file.path]) for image in usable}
        ),
    )


def count_classes(images: Sequence[SourceImage]) -> dict[str, dict[str, int]]:
    """Number of images of each class, for each split. A source without splits has the one split `all`."""
    classes = sorted_classes({image.class_name for image in images})
    present = {image.split or "all" for image in images}
    counts = {split: dict.fromkeys(classes, 0) for split in ("all", *SPLIT_FOLDERS) if split in present}
    for image in images:
        counts[image.split or "all"][image.class_name] += 1
    return counts


def missing_classes(counts: Mapping[str, Mapping[str, int]]) -> tuple[tuple[str, str], ...]:
    """The (split, class) pairs without an image."""
    return tuple((split, name) for split, row in counts.items() for name, count in row.items() if count == 0)


def find_duplicates(images: Mapping[str, tuple[str, str]]) -> Duplicates:
    """Group the paths of equal images. `images`: path → (split, digest of the pixels)."""
    groups: dict[str, list[str]] = {}
    for path in sorted(images):
        groups.setdefault(images[path][1], []).append(path)
    several = [tuple(paths) for paths in groups.values() if len(paths) > 1]
    across = [paths for paths in several if len({images[path][0] for path in paths}) > 1]
    return Duplicates(tuple(across), tuple(paths for paths in several if paths not in across))


def duplicate_lines(duplicates: Duplicates, *, num_shown: int | None = None) -> list[str]:
    """Warnings about duplicates; no lines if there are none."""
    lines = []
    if duplicates.across:
        lines.append(
            f"warning: {_images_are(duplicates.across)} in more than one split, so the accuracy there is too high:"
        )
        lines += shown_list([" = ".join(paths) for paths in duplicates.across], num_shown)
    if duplicates.within:
        lines.append(f"{_images_are(duplicates.within)} in one split more than once:")
        lines += shown_list([" = ".join(paths) for paths in duplicates.within], num_shown)
    return lines


def _images_are(groups: Sequence[object]) -> str:
    return "1 image is" if len(groups) == 1 else f"{len(groups)} images are"


def bad_lines(bad: Sequence[BadFile], *, num_shown: int | None = None) -> list[str]:
    """A line for each bad image."""
    return shown_list([f"{file.path}: {file.reason}" for file in bad], num_shown)


def shown_list(lines: Sequence[str], num_shown: int | None) -> list[str]:
    """Indented lines: all, or `num_shown` of them and how many more there are."""
    shown = [f"  {line}" for line in lines[:num_shown]]
    return shown if len(shown) == len(lines) else [*shown, f"  and {len(lines) - len(shown)} more"]


def counts_table(counts: Mapping[str, Mapping[str, int]]) -> Table:
    """Images of each class (columns) in each split (rows)."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    table.add_column("images")
    for name in next(iter(counts.values()), {}):
        table.add_column(Text(name), justify="right")  # Text: rich reads brackets in a string as markup
    table.add_column("all", justify="right")
    for split, row in counts.items():
        table.add_row(split, *(f"{count:,}" for count in row.values()), f"{sum(row.values()):,}")
    return table


def _digest_batch(reader: SourceReader, names: Sequence[str]) -> list[tuple[str, str, str | None]]:
    """In a worker: for each image (name, digest of the pixels, None), or (name, "", why it is bad)."""
    results: list[tuple[str, str, str | None]] = []
    for name in names:
        try:
            image = load_rgb(reader.read(name), name=name, size=_DIGEST_SIZE)
            results.append((name, hashlib.sha256(image.tobytes()).hexdigest(), None))
        except BadImageError as error:
            results.append((name, "", error.reason))
    return results


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m signs_dist.data.audit",
        description="Find broken files, names without a label, missing classes, and images in more than one split.",
        epilog="Exit codes: 0: no problems (duplicates are only a warning). 1: problems. 2: not a data set.",
    )
    parser.add_argument("source", type=Path, help="a data set, or photos not built yet: a folder or a zip")
    parser.add_argument(
        "--processes",
        type=whole_number(MOST_PROCESSES),
        metavar="N",
        help="worker processes (default: all usable cores)",
    )
    parser.add_argument("--quiet", action="store_true", help="print problems only")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring. Raises UserError."""
    options = _parser().parse_args(arguments)
    from signs_dist.console.screen import Screen

    screen = Screen(is_terminal=sys.stdout.isatty(), quiet=options.quiet)
    found = audit(options.source, processes=options.processes, screen=screen)
    screen.table(counts_table(found.counts))
    for line in duplicate_lines(found.duplicates):
        screen.result(line)
    for split, name in found.missing:
        screen.result(f"{'warning' if split == 'test' else 'problem'}: {split} has no image of class {name}")
    if found.bad:
        screen.result(f"problem: {len(found.bad)} image{'' if len(found.bad) == 1 else 's'} cannot be used:")
        for line in bad_lines(found.bad):
            screen.result(line)
    num_images = sum(sum(row.values()) for row in found.counts.values())
    screen.say(
        f"{options.source}: {num_images:,} images read, {'problems found' if found.has_problems else 'no problems'}"
    )
    return EXIT_FAILED if found.has_problems else EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
