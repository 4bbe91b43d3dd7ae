"""Predict the class of photos with a trained model.

python -m signs_dist.predict RUN_DIR photo.jpg folder/ --json out.json
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.console.command import CommandParser, add_model_arguments, run_command
from signs_dist.errors import EXIT_OK
from signs_dist.files import write_json, written_aside

if TYPE_CHECKING:
    from signs_dist.inference.predicting import Prediction


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.predict",
        description="Predict the class of photos with a trained model.",
        epilog="Exit codes: 0 done, 2 wrong input, 130 interrupted.",
    )
    add_model_arguments(parser)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="photos, or folders with photos")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all probabilities as JSON")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all probabilities as a table")
    parser.add_argument(
        "--bad-images", choices=("stop", "skip"), default="stop", help="at an unreadable photo (default: stop)"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Predict as the arguments say."""
    options = build_parser().parse_args(arguments)

    from signs_dist.console.screen import Screen, percent
    from signs_dist.data.images import find_images
    from signs_dist.environment.context import read_context
    from signs_dist.run_folder.folder import RunFolder

    context = read_context()
    screen = Screen(is_terminal=context.is_terminal, quiet=options.quiet)
    RunFolder.open(options.run_dir)  # refuses a wrong folder before the slow imports
    paths = find_images(options.images)

    from signs_dist.inference.predicting import predict
    from signs_dist.inference.trained_model import read_trained_model, use_threads

    trained = read_trained_model(options.run_dir, weights=options.weights, device=options.device)
    use_threads(trained, context)
    for note in trained.notes:
        screen.result(note)
    if trained.data["name"] == "synthetic":
        screen.say("this model was trained on synthetic images")
    predictions: list[Prediction] = []
    skipped: list[Prediction] = []
    width = max(len(str(path)) for path in paths)
    for prediction in predict(trained, paths, skip_bad=options.bad_images == "skip"):
        if "error" in prediction:
            skipped.append(prediction)
            screen.say(f"{prediction['path']:<{width}}  skipped: {prediction['error']}")
            continue
        predictions.append(prediction)
        screen.say(f"{prediction['path']:<{width}}  {prediction['class']:>4}  {percent(prediction['probability']):>7}")

    if options.json is not None:
        about = {"run": str(trained.folder.path), "weights": str(trained.source), "trained_on": trained.data["name"]}
        content = about | {"classes": list(trained.classes), "predictions": predictions, "skipped": skipped}
        write_json(options.json, content)
    if options.csv is not None:
        write_csv(options.csv, trained.classes, predictions)
    return EXIT_OK


def write_csv(path: Path, classes: Sequence[str], predictions: Sequence[Prediction]) -> None:
    """Write predictions as a table: path, class, probability, and a column for each class."""
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "class", "probability", *(f"p_{name}" for name in classes)])
        for row in predictions:
            shares = [f"{share:.6f}" for share in row["probabilities"].values()]
            writer.writerow([row["path"], row["class"], f"{row['probability']:.6f}", *shares])


if __name__ == "__main__":
    sys.exit(run_command(main))
