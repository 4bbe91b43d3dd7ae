"""Compare two runs: what differs in their configs, which photos the second fixed, and which it broke.

python -m signs_dist.compare runs/a runs/b
python -m signs_dist.compare runs/a runs/b --split test --all
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist.console.command import CommandParser, run_command
from signs_dist.errors import EXIT_OK
from signs_dist.monitoring.plain_text import one_line

if TYPE_CHECKING:
    from signs_dist.results.comparison import ChangedImage, Comparison, Evaluated

NUM_SHOWN = 10
"""How many names are shown of each list, without --all."""


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.compare",
        description="Compare two runs: what differs in their configs, and which photos the second run fixed and broke.",
        epilog="Exit codes: 0 done, 2 wrong input.",
    )
    parser.add_argument("first", type=Path, metavar="RUN_A", help="a run folder")
    parser.add_argument("second", type=Path, metavar="RUN_B", help="the run folder that is compared with it")
    parser.add_argument("--split", choices=("val", "test"), default="val", help="which images (default: val)")
    parser.add_argument("--all", action="store_true", help=f"all names, not only the first {NUM_SHOWN}")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Compare as the arguments say."""
    options = build_parser().parse_args(arguments)

    from signs_dist.results.comparison import compare_runs

    comparison = compare_runs(options.first, options.second, options.split)
    if options.json:
        print(json.dumps(comparison.to_fields(), indent=2))
        return EXIT_OK
    for line in describe(comparison, shows_all=options.all):
        print(one_line(line))
    return EXIT_OK


def describe(comparison: Comparison, *, shows_all: bool) -> list[str]:
    """The comparison in lines, for people."""
    lines = [f"A  {_describe_run(comparison.first)}", f"B  {_describe_run(comparison.second)}", ""]
    lines += _describe_settings(comparison.settings)
    counts = comparison.first.num_images, comparison.second.num_images
    if not comparison.is_same_data or set(counts) != {comparison.num_images}:
        why = "a file of predictions is not whole" if comparison.is_same_data else "other data"
        lines += [
            "",
            f"{why}: A has {counts[0]:,} {comparison.split} photos, B has {counts[1]:,}. Compared are the "
            f"{comparison.num_images:,} that both have.",
        ]
    first, second = comparison.accuracies
    change, low, high = comparison.change
    lines += [
        "",
        f"{comparison.split} {100 * first:.1f} → {100 * second:.1f} %: {100 * change:+.1f} points on "
        f"{comparison.num_images:,} photos",
        "no photo changed"
        if not comparison.fixed and not comparison.broke
        else f"95 % interval {100 * low:+.1f} to {100 * high:+.1f} points; {_describe_p(comparison.p_value)}",
        f"fixed {len(comparison.fixed):,} photos, broke {len(comparison.broke):,}",
    ]
    for name, images in (("fixed", comparison.fixed), ("broke", comparison.broke)):
        lines += _describe_images(name, images, shows_all=shows_all)
    return lines


def _describe_run(run: Evaluated) -> str:
    return f"{run.path}: {run.header.weights} weights, epoch {run.header.epoch}"


def _describe_settings(settings: Any) -> list[str]:
    from signs_dist.config.yaml_text import format_value

    if not settings:
        return ["the configs do not differ"]
    rows = [(key, *map(format_value, map(_plain, values))) for key, values in settings.items()]
    width = max(len(key) for key, _, _ in rows)
    return ["the configs differ in", *(f"  {key:<{width}}  {first} → {second}" for key, first, second in rows)]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _describe_p(p_value: float) -> str:
    exact = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}" if p_value < 0.995 else "p = 1"
    verdict = "chance alone rarely gives such a change" if p_value < 0.05 else "chance alone may give such a change"
    return f"{exact} by McNemar's exact test: {verdict}"


def _describe_images(name: str, images: Sequence[ChangedImage], *, shows_all: bool) -> list[str]:
    if not images:
        return []
    shown = images if shows_all else images[:NUM_SHOWN]
    rest = "" if len(shown) == len(images) else f"; the first {len(shown)} of {len(images):,}, --all shows all"
    files = [one_line(image.file) for image in shown]
    # As wide as the longest name, but not so wide that a terminal breaks the lines.
    width = min(max(map(len, files)), max(20, shutil.get_terminal_size((120, 24)).columns - 30))
    rows = [
        one_line(f"  {file:<{width}}  {image.label}: {image.before} → {image.after}")
        for file, image in zip(files, shown, strict=True)
    ]
    return ["", f"{name} (file, class: A says → B says{rest})", *rows]


if __name__ == "__main__":
    sys.exit(run_command(main))
