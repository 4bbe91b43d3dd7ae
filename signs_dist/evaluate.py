"""Evaluate a trained model on a split of its data set, or of another data set.

python -m signs_dist.evaluate RUN_DIR --split test
python -m signs_dist.evaluate RUN_DIR --data OTHER_PHOTOS --weights best --json scores.json
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from signs_dist.console.command import CommandParser, add_model_arguments, run_command
from signs_dist.errors import EXIT_OK


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.evaluate",
        description="Evaluate a trained model: accuracy with its 95 % interval, accuracy per class, confusion matrix.",
        epilog="Exit codes: 0 done, 2 wrong input, 130 interrupted.",
    )
    add_model_arguments(parser)
    parser.add_argument("--split", choices=("train", "val", "test"), default="val", help="which images (default: val)")
    parser.add_argument("--data", metavar="DIR", help="another data set with the same classes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to a file as well")
    parser.add_argument("--quiet", action="store_true", help="print the accuracy only")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Evaluate as the arguments say."""
    options = build_parser().parse_args(arguments)

    from signs_dist.console.screen import Screen
    from signs_dist.environment.context import read_context
    from signs_dist.run_folder.folder import RunFolder

    context = read_context()
    screen = Screen(is_terminal=context.is_terminal, quiet=options.quiet)
    RunFolder.open(options.run_dir)  # refuses a wrong folder before the slow imports

    from signs_dist.files import write_json
    from signs_dist.inference.scoring import open_scored_split, score_split
    from signs_dist.inference.trained_model import read_trained_model, use_threads
    from signs_dist.training.score_table import score_fields, show_score

    model = read_trained_model(options.run_dir, weights=options.weights, device=options.device)
    use_threads(model, context)
    for note in model.notes:
        screen.result(note)
    cores = context.usable_cores
    with screen.preparing() as report:
        opened = open_scored_split(model, options.data, options.split, num_cores=cores, report=report)
    score = score_split(model, opened, num_cores=cores)

    screen.say(f"weights {model.source}")
    show_score(screen, options.split, score, model.classes, opened.data_name)
    if options.json is not None:
        about = {
            "data": opened.data_name,
            "split": options.split,
            "fingerprint": opened.fingerprint,
            "weights": str(model.source),
            "classes": list(model.classes),
        }
        write_json(options.json, about | score_fields(options.split, score, in_full=True))
        screen.say(f"numbers are in {options.json}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
