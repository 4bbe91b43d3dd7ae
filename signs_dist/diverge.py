"""Find where two runs part: the first step, micro-batch, layer and direction whose bits differ.

python -m signs_dist.diverge runs/a runs/b
python -m signs_dist.diverge runs/a runs/b --left-processes 1 --right-processes 3 --right-code ../other
python -m signs_dist.diverge --config configs/signs.yaml exact=true --left processes=1 --right processes=3
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from signs_dist.console.command import SETTINGS, CommandParser, run_command, whole_number
from signs_dist.errors import EXIT_FAILED, EXIT_OK, UserError

MOST_STEPS = 1_000_000_000
MOST_PROCESSES = 1024


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.diverge",
        description="Find where two runs part: the first step, micro-batch, layer and direction (forward, backward, "
        "reduction, optimizer) whose bits differ. Both train again side by side, from the last state in which they "
        "are equal. Give two run folders, or one config with --left and --right. Nothing is written into run folders.",
        epilog="Exit codes: 0 equal bits, 1 a difference, 2 wrong input.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with settings; see configs/")
    parser.add_argument(
        SETTINGS,
        nargs="*",
        action=_RunsAndSettings,
        metavar="RUN_A RUN_B | section.key=value",
        help="two run folders; or settings of both sides, such as exact=true",
    )
    parser.set_defaults(runs=[])
    for side, name in (("left", "A"), ("right", "B")):
        parser.add_argument(
            f"--{side}",
            metavar='"processes=2 key=value"',
            help=f"without run folders: the processes and the settings of {name}",
        )
        parser.add_argument(
            f"--{side}-processes", type=whole_number(MOST_PROCESSES), metavar="N", help=f"processes of {name} here"
        )
        parser.add_argument(f"--{side}-code", type=Path, metavar="DIR", help=f"where Python looks first for {name}")
    parser.add_argument(
        "--steps", type=whole_number(MOST_STEPS), metavar="N", help="compare up to step N (default: 20, or all)"
    )
    parser.add_argument("--data", metavar="PLACE", help="where the images of the runs lie now")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result to a file as well")
    return parser


class _RunsAndSettings(argparse.Action):
    """Tells run folders, `runs`, from settings, which have an equals sign."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        namespace.runs = [word for word in values if "=" not in word or Path(word).is_dir()]
        setattr(namespace, self.dest, [word for word in values if word not in namespace.runs])


def main(arguments: Sequence[str]) -> int:
    """Compare as the arguments say."""
    options = build_parser().parse_intermixed_args(arguments)

    from signs_dist.diverging.request import read_request
    from signs_dist.environment.context import read_context

    request = read_request(options)
    if read_context().world_size > 1:
        raise UserError("diverge starts its own processes: start it with plain python, without torchrun or srun.")

    from signs_dist.diverging.comparison import compare
    from signs_dist.files import require_writable, write_json

    require_writable(options.json)
    with tempfile.TemporaryDirectory(prefix="signs_dist-diverge-") as folder:
        result = compare(request, Path(folder), tell=lambda line: print(line, flush=True))
    if options.json is not None:
        write_json(options.json, result.as_fields())
    return EXIT_OK if result.is_equal else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(run_command(main))
