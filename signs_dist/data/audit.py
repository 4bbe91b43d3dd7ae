"""Find faults in a data set: broken files, names without a label, missing classes, one image in two splits.

python -m signs_dist.data.audit data/64x64_SIGNS        # a data set, or photos not built yet: folder, zip or table

It tells the part of `signs_dist.inspect` that decides whether a set that was built is sound. Exit codes: 0: no problems
(duplicates within a class are only a warning); 1: problems; 2: not a data set.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.console.command import CommandParser, add_looking, checked_megapixels, run_command
from signs_dist.data.duplicates import duplicate_lines
from signs_dist.data.images import MAX_MEGAPIXELS
from signs_dist.data.inspection.findings import has_problems
from signs_dist.data.inspection.inspecting import Inspection, inspect_photos
from signs_dist.data.names import printable
from signs_dist.data.problems import MAX_LISTED, bad_lines, listed, shown_list
from signs_dist.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from signs_dist.console.screen import Screen


def audit(
    source: Path,
    *,
    processes: int | None = None,
    screen: Screen | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Inspection:
    """Decode all images of a data set, and compare them. Near copies are not looked for.

    Args:
        source: a folder, a zip or a table.
        processes: worker processes. None: all usable cores.
        screen: shows the progress. None: shows nothing.
        max_megapixels: larger images are problems.

    Raises:
        UserError: the source holds no images in a known layout.
    """
    with contextlib.nullcontext(_tell_nobody) if screen is None else screen.preparing() as report:
        return inspect_photos(
            source, processes=processes, max_megapixels=max_megapixels, has_near=False, on_progress=report
        )


def _tell_nobody(what: str, done: int, total: int) -> None:
    """Show no progress."""


def audit_lines(found: Inspection, *, in_full: bool = False) -> list[str]:
    """The problems and warnings, a line each, with the files below. `in_full`: all files of each."""
    lines = outside_lines(found.listed.outside)
    lines += [f"problem: {line}" for line in found.listed.problems]
    if len(found.class_counts()) == 1:
        name = printable(next(iter(found.class_counts())))
        lines.append(f"problem: all images are of the single class {name}; a classifier needs images of two or more")
    lines += duplicate_lines(found.duplicates, num_shown=None if in_full else MAX_LISTED)
    lines += missing_lines(found.missing)
    if found.single:
        words = "1 class has" if len(found.single) == 1 else f"{len(found.single):,} classes have"
        lines.append(f"problem: {words} a single photo, too few for train and val: {listed(found.single)}")
    if found.bad:
        lines.append(f"problem: {len(found.bad):,} image{'' if len(found.bad) == 1 else 's'} cannot be used:")
        lines += bad_lines(found.bad, in_full=in_full)
    return lines


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


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.data.audit",
        description="Find broken files, names without a label, missing classes, and images in more than one split.",
        epilog="Exit codes: 0: no problems (duplicates within a class are only a warning). 1: problems. 2: not a data "
        "set.",
    )
    source = "a data set, or photos not built yet: a folder, a zip, a table or tar shards"
    add_looking(parser, source, None, "print problems only")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring. Raises UserError."""
    options = build_parser().parse_args(arguments)
    max_megapixels = checked_megapixels(options.max_megapixels) or MAX_MEGAPIXELS
    from signs_dist.console.class_tables import count_table
    from signs_dist.console.screen import Screen
    from signs_dist.environment.context import is_watched

    screen = Screen(is_terminal=is_watched(), quiet=options.quiet)
    found = audit(options.source, processes=options.processes, screen=screen, max_megapixels=max_megapixels)
    screen.tables(lambda width: [count_table(found.counts, width)])
    for line in [*found.listed.notes, *found.listed.name_notes]:
        screen.say(line)
    for line in audit_lines(found, in_full=options.all):
        screen.result(line)
    num_images = len(found.facts)
    is_sound = not has_problems(found)
    screen.say(f"{options.source}: {num_images:,} images read, {'no problems' if is_sound else 'problems found'}")
    return EXIT_OK if is_sound else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(run_command(main))
