"""Predict the class of photos with a trained model.

python -m signs_dist.predict RUN_DIR photo.jpg folder/ --json out.json
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.console.command import (
    CommandParser,
    add_max_megapixels,
    add_model_arguments,
    checked_megapixels,
    run_command,
)
from signs_dist.errors import EXIT_FAILED, EXIT_OK, UserError
from signs_dist.files import require_writable, write_json
from signs_dist.monitoring.plain_text import one_line

if TYPE_CHECKING:
    from signs_dist.inference.predicting import Prediction


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.predict",
        description="Predict the class of photos with a trained model.",
        epilog="Exit codes: 0 done, 1 a photo has no prediction (with --bad-images skip), 2 wrong input, "
        "75 or 130 stopped by a signal, 141 nobody reads the output.",
    )
    add_model_arguments(parser)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="photos, or folders with photos")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all probabilities as JSON")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all probabilities as a table")
    parser.add_argument(
        "--bad-images",
        choices=("stop", "skip"),
        default="stop",
        help="at an unreadable photo: write nothing, or go on and exit with 1 (default: stop)",
    )
    add_max_megapixels(parser)
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Predict as the arguments say."""
    options = build_parser().parse_args(arguments)
    max_megapixels = checked_megapixels(options.max_megapixels)

    from signs_dist.console.screen import Screen
    from signs_dist.console.streams import lasting
    from signs_dist.data.images import BadImageError
    from signs_dist.data.listing import find_photos
    from signs_dist.environment.context import read_context
    from signs_dist.run_folder.folder import RunFolder

    context = read_context()
    # Files are wanted, whoever reads the output.
    output = lasting(sys.stdout) if options.json is not None or options.csv is not None else sys.stdout
    screen = Screen(is_terminal=context.is_terminal, quiet=options.quiet, file=output)
    RunFolder.open(options.run_dir)  # refuses a wrong folder before the slow imports
    paths, passed_over = find_photos(options.images)
    _check_outputs(options.json, options.csv, paths)

    from signs_dist.inference.predicting import predict
    from signs_dist.inference.prediction_files import write_csv
    from signs_dist.inference.trained_model import read_trained_model, use_threads

    trained = read_trained_model(options.run_dir, weights=options.weights, device=options.device)
    use_threads(trained, context)
    for note in trained.notes:
        screen.result(note)
    if trained.data["name"] == "synthetic":
        screen.say("this model was trained on synthetic images")
    rows = []
    width = max(len(one_line(str(path))) for path in paths)
    try:
        for row in predict(trained, paths, skip_bad=options.bad_images == "skip", max_megapixels=max_megapixels):
            rows.append(row)
            screen.say(f"{one_line(row['path']):<{width}}  {_found(row)}")
    except BadImageError as error:
        raise UserError(
            f"cannot read the photo {one_line(error.path)}: {error.reason}. Nothing was written. To go on without "
            f"such photos, add --bad-images skip."
        ) from error

    for note in passed_over.notes():
        screen.say(note)
    skipped = [row for row in rows if "error" in row]
    if options.json is not None:
        about = {"run": str(trained.folder.path), "weights": str(trained.source), "trained_on": trained.data["name"]}
        predictions = [row for row in rows if "error" not in row]
        content = about | {"classes": list(trained.classes), "predictions": predictions, "skipped": skipped}
        write_json(options.json, content)
    if options.csv is not None:
        write_csv(options.csv, trained.classes, rows)
    if not skipped:
        return EXIT_OK
    print("\n".join(_skipped_lines(skipped, len(rows))), file=sys.stderr)
    return EXIT_FAILED


def _check_outputs(json: Path | None, csv: Path | None, inputs: Sequence[Path]) -> None:
    """Refuse output files that cannot be written, before the work. Raises UserError."""
    if json is not None and json == csv:
        raise UserError(f"--json and --csv name the same file, {csv}. Choose another for one of them.")
    for file in (json, csv):
        require_writable(file, keep=inputs)


def _found(row: Prediction) -> str:
    """What was found in a photo, for its line."""
    from signs_dist.console.screen import percent

    if "error" in row:
        return f"skipped: {row['error']}"
    return f"{one_line(row['class']):>4}  {percent(row['probability']):>7}"


def _skipped_lines(skipped: Sequence[Prediction], num_photos: int) -> list[str]:
    """How many photos have no prediction, and why."""
    from signs_dist.data.problems import BadFile, bad_lines

    verb = "has" if len(skipped) == 1 else "have"
    reasons = bad_lines([BadFile(row["path"], row["error"]) for row in skipped])
    return [f"{len(skipped):,} of {num_photos:,} photos {verb} no prediction:", *reasons]


if __name__ == "__main__":
    sys.exit(run_command(main))
