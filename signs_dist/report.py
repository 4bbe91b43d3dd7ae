"""Make a report: one HTML page about a run, or about several.

python -m signs_dist.report RUN_DIR                        writes RUN_DIR/report.html
python -m signs_dist.report RUN_DIR RUN_DIR --out both.html
python -m signs_dist.report FOLDER                         all runs below FOLDER, or the sweep in it
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from signs_dist.console.command import CommandParser, run_command
from signs_dist.errors import EXIT_OK


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.report",
        description="Make one self-contained HTML page about a run, or about several: curves, mistakes, calibration, "
        "attempts, settings, and what differs. It opens in any browser, without a network.",
        epilog="Exit codes: 0 done, 2 wrong input, 75 or 130 stopped by a signal.",
    )
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN_DIR",
        help="run folder, finished or not, or a folder with run folders or a sweep in it",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the page to write (default: report.html in the folder given; of several, in the working directory)",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Write the report that the arguments ask for, and print its path."""
    options = build_parser().parse_args(arguments)

    from signs_dist.files import require_writable
    from signs_dist.reporting.writing import choose_output, find_runs, write_report, write_sweep_report
    from signs_dist.results.sweeps import is_sweep

    output = choose_output(options.runs, options.out)
    require_writable(output)
    if len(options.runs) == 1 and is_sweep(options.runs[0]):
        what = _count(write_sweep_report(options.runs[0], output), "trial")
    else:
        runs = find_runs(options.runs)
        write_report(runs, output, is_folder=len(options.runs) == 1 and runs != options.runs)
        what = _count(len(runs), "run")
    if not options.quiet:
        print(f"the report of {what} is in {output}")
    return EXIT_OK


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


if __name__ == "__main__":
    sys.exit(run_command(main))
