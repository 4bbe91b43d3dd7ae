"""Look at photos before training: layout, classes, sizes, formats, what is odd about them, and a config that fits them.

python -m signs_dist.inspect photos                            a folder, a zip, or a table of paths and classes
python -m signs_dist.inspect photos --write config.yaml        then: python -m signs_dist.train --config config.yaml
python -m signs_dist.inspect photos --html photos.html         a page with pictures of each class and of what is odd
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist.console.command import (
    SETTINGS,
    CommandParser,
    add_looking,
    checked_megapixels,
    read_path,
    run_command,
)
from signs_dist.errors import EXIT_FAILED, EXIT_OK, UserError

if TYPE_CHECKING:
    from signs_dist.console.screen import Screen
    from signs_dist.data.inspection.findings import Finding
    from signs_dist.data.inspection.inspecting import Inspection


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.inspect",
        description="Look at photos: layout, classes, sizes, formats, broken files, copies and near copies, doubtful "
        "labels, imbalance. Write a config that trains on them where they lie.",
        epilog="Exit codes: 0: no problems, or a config was written that trains without what has them. 1: problems. "
        "2: no photos, or wrong input.",
    )
    source = "photos: a folder, a zip, a table or tar shards"
    add_looking(parser, source, "FOLDER_OR_CSV", "print what is odd only")
    parser.add_argument(
        SETTINGS,
        nargs="*",
        metavar="data.key=value",
        help="settings that say how classes and groups are read, such as data.columns.label=kind",
    )
    parser.add_argument("--write", type=read_path, metavar="FILE", help="write a config for these photos")
    parser.add_argument("--force", action="store_true", help="let --write replace a file")
    parser.add_argument("--html", type=read_path, metavar="FILE", help="write a page with pictures")
    parser.add_argument("--json", type=read_path, metavar="FILE", help="write all that was found as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring. Raises UserError."""
    options = build_parser().parse_args(arguments)
    max_megapixels = checked_megapixels(options.max_megapixels)

    from signs_dist.config.reading import read_config
    from signs_dist.config.section import flatten
    from signs_dist.console.screen import Screen
    from signs_dist.data.images import MAX_MEGAPIXELS
    from signs_dist.data.inspection.findings import find_oddities
    from signs_dist.data.inspection.inspecting import inspect_photos
    from signs_dist.data.inspection.told import tell
    from signs_dist.data.inspection.writing import refuse_existing, require_data_settings
    from signs_dist.environment.context import is_watched
    from signs_dist.files import require_writable

    if options.write is not None:
        refuse_existing([options.write], force=options.force)
    for path in (options.write, options.html, options.json):
        require_writable(path)
    loaded = read_config(None, options.overrides)
    given = {key: value for key, value in flatten(loaded.config) if key in loaded.origins}
    require_data_settings(given)
    screen = Screen(is_terminal=is_watched(), quiet=options.quiet)
    with screen.preparing() as report:
        found = inspect_photos(
            options.source,
            loaded.config.data,
            processes=options.processes,
            max_megapixels=max_megapixels or MAX_MEGAPIXELS,
            on_progress=report,
        )
    oddities = find_oddities(found)
    tell(screen, found, oddities, in_full=options.all)
    _write_files(options, given, found, oddities, screen)
    has_problems = any(finding.level == "problem" for finding in oddities)
    return EXIT_FAILED if has_problems and options.write is None else EXIT_OK


def _write_files(
    options: argparse.Namespace,
    given: Mapping[str, Any],
    found: Inspection,
    oddities: Sequence[Finding],
    screen: Screen,
) -> None:
    """Write the files that the flags name, and say what to type next."""
    from signs_dist.data.inspection.page import page_html
    from signs_dist.data.inspection.told import as_json
    from signs_dist.data.inspection.writing import plan_config, write_config
    from signs_dist.files import write_json, write_text

    config = options.write or Path("config.yaml")
    try:
        plan = plan_config(found, config, given)
    except UserError:
        if options.write is not None:
            raise
        plan = None
    command = ""
    if options.write is not None and plan is not None:
        write_config(plan, found, force=options.force, typed=options.overrides)
        screen.result(f"wrote {' and '.join(map(str, plan.files()))}")
        command = f"python -m signs_dist.train --config {shlex.quote(str(config))}"
    elif plan is not None:
        typed = shlex.join([str(options.source), *options.overrides])
        command = f"python -m signs_dist.inspect {typed} --write {config}"
    choices = plan.choices if plan is not None else ()
    if options.json is not None:
        write_json(options.json, as_json(found, oddities, choices))
    if options.html is not None:
        page = page_html(found, oddities, choices, command=command, processes=options.processes)
        write_text(options.html, page)
        screen.result(f"wrote {options.html}")
    if command:
        screen.say(f"next: {command}")


if __name__ == "__main__":
    sys.exit(run_command(main))
