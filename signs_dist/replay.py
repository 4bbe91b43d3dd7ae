"""Train a step of a recorded run again, here, and look into it: losses, layers, gradients, images.

python -m signs_dist.replay RUN_DIR --step 1234                  on one process, whatever the run used
python -m signs_dist.replay RUN_DIR --step 1234 --micro-batch 3 --shell
python -m signs_dist.replay RUN_DIR --failure                    the step whose loss was not finite
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from signs_dist.console.command import MOST_PROCESSES, CommandParser, read_path, run_command, whole_number
from signs_dist.errors import EXIT_FAILED, EXIT_OK, UserError

MOST_STEPS = 10**12


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.replay",
        description="Train a step of a recorded run again, from its newest checkpoint before that step, and look into "
        "it: the loss, accuracy and gradient of each micro-batch, the largest output and gradient of each layer, the "
        "images as they went into the network, and the first layer whose output is not finite. The run folder is read "
        "only.",
        epilog="Exit codes: 0 done, 1 the steps are not those of the run though they should be, or --failure did not "
        "come again, 2 wrong input.",
    )
    parser.add_argument("run_dir", type=read_path, metavar="RUN_DIR", help="run folder made by signs_dist.train")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--step", type=whole_number(MOST_STEPS), metavar="N", help="the step of the run, from 1, as in metrics.jsonl"
    )
    which.add_argument(
        "--failure", action="store_true", help="the step in the run's non_finite_loss.json, and the step before it"
    )
    parser.add_argument(
        "--until", type=whole_number(MOST_STEPS), metavar="N", help="look at all steps up to this one (default: --step)"
    )
    parser.add_argument(
        "--micro-batch",
        type=whole_number(MOST_STEPS),
        metavar="M",
        help="look at one micro-batch, by its number in logs and in non_finite_loss.json, from 0 (default: all)",
    )
    parser.add_argument(
        "--processes",
        type=whole_number(MOST_PROCESSES),
        default=1,
        metavar="N",
        help="processes of this machine, whatever the run used (default: 1)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--data", type=read_path, metavar="PATH", help="where the run's images lie now")
    parser.add_argument(
        "--check",
        action="store_true",
        help="train on to the next state that the run wrote down, and compare, also if that takes more than 5 s",
    )
    parser.add_argument(
        "--shell",
        action="store_true",
        help="open Python with model, batch, images, targets, logits, losses, gradients and optimizer, "
        "of the last step; or run the program on standard input",
    )
    parser.add_argument(
        "--save", type=read_path, metavar="FILE", help="write tensors, for torch.load: see docs/replay.md"
    )
    parser.add_argument(
        "--images", type=read_path, metavar="FILE.png", help="the picture (default: replay-RUN-step-N.png, here)"
    )
    parser.add_argument("--json", type=read_path, metavar="FILE", help="write all numbers as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring. Raises UserError."""
    options = build_parser().parse_args(arguments)
    _check_flags(options)

    from signs_dist.environment.context import read_context
    from signs_dist.replaying.command import replay_command

    if read_context().world_size > 1:
        raise UserError("replay starts its own processes: start it with plain python, without torchrun or srun.")
    return EXIT_OK if replay_command(options) else EXIT_FAILED


def _check_flags(options: argparse.Namespace) -> None:
    """Refuse flags that do not go together. Raises `UserError`."""
    if options.failure and options.until is not None:
        raise UserError("--failure and --until: --failure looks at one step. Type --step N --until M.")
    if options.processes < 1:
        raise UserError(f"--processes {options.processes}: at least 1.")
    if options.shell and options.processes > 1:
        raise UserError(f"--shell works on one process, not on --processes {options.processes}. Omit --processes.")
    if options.shell and options.check:
        raise UserError("--check trains on past the step that --shell shows. Omit one of them.")
    if options.images is not None and options.images.suffix.lower() not in ("", ".png"):
        raise UserError(
            f"--images {options.images}: the picture is a PNG. Type --images "
            f"{shlex.quote(str(options.images.with_suffix('.png')))}."
        )


if __name__ == "__main__":
    sys.exit(run_command(main))
