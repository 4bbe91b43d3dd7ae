"""Evaluate a trained model on a split of its data set, or of another data set.

python -m signs_dist.evaluate RUN_DIR --split test
python -m signs_dist.evaluate RUN_DIR --data OTHER_PHOTOS --weights best --json scores.json
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from signs_dist.console.command import (
    CommandParser,
    add_max_megapixels,
    add_model_arguments,
    checked_megapixels,
    filled_text,
    run_command,
)
from signs_dist.environment.collector import importing
from signs_dist.errors import EXIT_OK, NotFiniteError


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.evaluate",
        description="Evaluate a trained model: accuracy with its 95 % interval, accuracy per class, confusion matrix.",
        epilog="Exit codes: 0 done, 1 the loss is not a finite number, 2 wrong input, 75 or 130 stopped by a signal, "
        "141 nobody reads the output.",
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        help="which images (default: val, or all images of a folder that is not split)",
    )
    parser.add_argument(
        "--data", type=filled_text, metavar="DIR", help="another data set, or class folders, with the same classes"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to a file as well")
    add_max_megapixels(parser)
    parser.add_argument("--quiet", action="store_true", help="print the accuracy only")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Evaluate as the arguments say."""
    options = build_parser().parse_args(arguments)
    max_megapixels = checked_megapixels(options.max_megapixels)

    from signs_dist.console.screen import Screen
    from signs_dist.console.streams import lasting
    from signs_dist.environment.context import read_context
    from signs_dist.run_folder.folder import RunFolder

    context = read_context()
    output = sys.stdout if options.json is None else lasting(sys.stdout)  # the file is wanted, whoever reads the output
    screen = Screen(is_terminal=context.is_terminal, quiet=options.quiet, file=output)
    RunFolder.open(options.run_dir)  # refuses a wrong folder before the slow imports

    from signs_dist.files import require_writable, write_json

    require_writable(options.json)
    with importing():
        from signs_dist.inference.scoring import open_scored_split, score_split
        from signs_dist.inference.trained_model import read_trained_model, use_threads
        from signs_dist.inference.unsplit import ALL
        from signs_dist.training.score_table import score_fields, show_score

    model = read_trained_model(options.run_dir, weights=options.weights, device=options.device)
    use_threads(model, context)
    for note in model.notes:
        screen.result(note)
    cores = context.usable_cores
    with screen.preparing() as report:
        opened = open_scored_split(
            model, options.data, options.split, num_cores=cores, report=report, max_megapixels=max_megapixels
        )
    score = score_split(model, opened, num_cores=cores)

    screen.say(f"weights {model.source}")
    for note in opened.notes:
        screen.say(note)
    if opened.split == ALL:
        screen.say(f"{opened.data_name} is not split: all its images are one set")
    show_score(screen, opened.split, score, model.classes, opened.data_name)
    if options.json is not None:
        about = {
            "data": opened.data_name,
            "split": opened.split,
            "fingerprint": opened.fingerprint,
            "weights": str(model.source),
            "classes": list(model.classes),
        }
        write_json(options.json, about | score_fields(opened.split, score, in_full=True))
        screen.say(f"numbers are in {options.json}")
    if score.num_bad:
        raise NotFiniteError(
            f"{model.source}: the loss of {score.num_bad:,} of {score.num_images:,} images is not a finite number. "
            f"Training has diverged, or the weights are damaged. Choose other weights with --weights."
        )
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
