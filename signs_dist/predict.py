"""Say which class photos belong to.

python -m signs_dist.predict RUN_DIR photo.jpg folder/ --json out.json
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist.console.command import CommandParser, run_command
from signs_dist.console.screen import Screen, percent
from signs_dist.errors import EXIT_OK, UserError
from signs_dist.files import write_json, written_aside

if TYPE_CHECKING:
    from signs_dist.training.trained_model import TrainedModel

Prediction = dict[str, Any]


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.predict",
        description="Say which class photos belong to, by a trained model.",
        epilog="Exit codes: 0 done, 2 wrong input, 130 interrupted.",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="run folder made by signs_dist.train")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="photos, or folders with photos")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all probabilities as JSON")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all probabilities as a table")
    parser.add_argument(
        "--bad-images", choices=("stop", "skip"), default="stop", help="what an unreadable photo does (default: stop)"
    )
    parser.add_argument(
        "--weights", default="final", metavar="NAME", help="final, best, last or a file (default: final)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Predict as the arguments say."""
    options = build_parser().parse_args(arguments)

    from signs_dist.environment.context import read_context
    from signs_dist.run_folder.folder import RunFolder

    context = read_context()
    screen = Screen(is_terminal=context.is_terminal, quiet=options.quiet)
    RunFolder.open(options.run_dir)
    paths = find_images(options.images)

    from signs_dist.distributed.device_choice import choose_device
    from signs_dist.training.trained_model import open_trained

    trained = open_trained(options.run_dir, options.weights, choose_device(context, options.device), context)
    if trained.data["name"] == "synthetic":
        screen.say("this model was trained on synthetic images")
    predictions: list[Prediction] = []
    skipped: list[dict[str, str]] = []
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


def find_images(given: Sequence[Path]) -> list[Path]:
    """The photos that are given, and all those in the folders that are given, each folder's sorted.

    Raises:
        UserError: something that does not exist, or a folder without photos.
    """
    from signs_dist.data.images import is_image_name

    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and is_image_name(file.name))
            if not inside:
                raise UserError(f"{path} holds no photos.")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{path}: no such file or folder.")
    return found


def predict(trained: TrainedModel, paths: Sequence[Path], *, skip_bad: bool) -> Iterator[Prediction]:
    """Predict each photo: `{"path", "class", "probability", "probabilities"}`, in the order given.

    A photo that cannot be read gives `{"path", "error"}` with `skip_bad`, else an error.

    Raises:
        BadImageError: a photo that cannot be read.
    """
    import numpy as np
    import torch

    from signs_dist.data.batches import Batch
    from signs_dist.data.images import BadImageError, load_rgb
    from signs_dist.training.loop import predict_logits

    config = trained.config
    for start in range(0, len(paths), config.evaluate.batch):
        rows: list[Prediction] = []
        pixels = []
        for path in paths[start : start + config.evaluate.batch]:
            try:
                pixels.append(np.asarray(load_rgb(path, name=str(path), size=config.data.image_size)))
                rows.append({"path": str(path)})
            except BadImageError as error:
                if not skip_bad:
                    raise
                rows.append({"path": str(path), "error": error.reason})
        if pixels:
            images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
            labels = torch.zeros(len(pixels), dtype=torch.int64)
            inputs, _ = trained.prepare(Batch(images, labels, labels, 0, 0))
            logits = predict_logits(trained.model, inputs, trained.precision, flip_average=config.evaluate.flip_average)
            shares = iter(logits.softmax(dim=1).tolist())
        for row in rows:
            if "error" not in row:
                probabilities = next(shares)
                best = max(range(len(probabilities)), key=probabilities.__getitem__)
                row["class"] = trained.classes[best]
                row["probability"] = probabilities[best]
                row["probabilities"] = dict(zip(trained.classes, probabilities, strict=True))
        yield from rows


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
