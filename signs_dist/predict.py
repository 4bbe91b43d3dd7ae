"""Predict the class of photos with a trained model, from its run folder or from an export of it.

python -m signs_dist.predict RUN_DIR photo.jpg folder/ 'more/**/*.png' --json out.json
find photos -name '*.jpg' | python -m signs_dist.predict model.onnx - --top 3 --jsonl out.jsonl --quiet
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.console.command import (
    CommandParser,
    add_max_megapixels,
    checked_megapixels,
    filled_text,
    run_command,
    whole_number,
)
from signs_dist.environment.collector import importing
from signs_dist.environment.core_use import let_threads_sleep
from signs_dist.errors import EXIT_FAILED, EXIT_OK, UserError
from signs_dist.files import require_writable
from signs_dist.monitoring.plain_text import one_line

if TYPE_CHECKING:
    from signs_dist.console.screen import Screen
    from signs_dist.environment.context import Context
    from signs_dist.inference.exported_model import ExportedModel
    from signs_dist.inference.inputs import Inputs
    from signs_dist.inference.predicting import Prediction
    from signs_dist.inference.prediction_files import Write
    from signs_dist.inference.skipped import Skipped
    from signs_dist.inference.trained_model import TrainedModel

MOST_TOGETHER = 65_536
"""The largest legal `--batch`, and `--top`."""


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.predict",
        description="Predict the class of photos with a trained model.",
        epilog="Exit codes: 0 done, 1 a photo has no prediction, 2 wrong input, "
        "75 or 130 stopped by a signal, 141 nobody reads the output.",
    )
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="run folder, or what signs_dist.export wrote: its folder or its file"
    )
    parser.add_argument(
        "images",
        type=filled_text,
        nargs="+",
        metavar="INPUT",
        help="photos, folders, patterns such as 'photos/*.jpg', or - for a list of paths on standard input",
    )
    parser.add_argument(
        "--weights", default="final", metavar="NAME", help="of a run: final, best, last or a file (default: final)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--top",
        type=whole_number(MOST_TOGETHER),
        metavar="K",
        help="show and write the K most probable classes (default: show 1, write all)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the probabilities as JSON")
    parser.add_argument(
        "--jsonl",
        type=Path,
        metavar="FILE",
        help="write the probabilities as lines of JSON, each batch as it is computed",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the probabilities as a table")
    parser.add_argument(
        "--batch",
        type=whole_number(MOST_TOGETHER),
        metavar="N",
        help="photos that are computed at the same time (default: evaluate.batch of the run)",
    )
    parser.add_argument(
        "--bad-images",
        choices=("skip", "stop"),
        default="skip",
        help="at an unreadable photo: name it, go on, and exit with 1; or stop at once (default: skip)",
    )
    add_max_megapixels(parser)
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Predict as the arguments say."""
    options = build_parser().parse_args(arguments)
    checked_megapixels(options.max_megapixels)
    for flag, given in (("--top", options.top), ("--batch", options.batch)):
        if given is not None and given < 1:
            raise UserError(f"{flag} {given}: type 1 or more.")

    from signs_dist.console.screen import Screen
    from signs_dist.console.streams import lasting
    from signs_dist.environment.context import read_context
    from signs_dist.inference.export_files import require_model
    from signs_dist.inference.inputs import find_inputs

    context = read_context()
    # Files are wanted, whoever reads the output.
    has_files = any(file is not None for file in _outputs(options).values())
    screen = Screen(
        is_terminal=context.is_terminal, quiet=options.quiet, file=lasting(sys.stdout) if has_files else sys.stdout
    )
    require_model(options.model)  # refuses a wrong folder before the slow imports
    inputs = find_inputs(options.images, sys.stdin.buffer)
    _check_outputs(_outputs(options), inputs)
    let_threads_sleep(os.environ)  # threads that wait would keep cores from those that decode

    with importing():
        import torch

        from signs_dist.inference.trained_model import read_model, use_threads

    torch.set_num_threads(context.num_threads)
    model = read_model(options.model, weights=options.weights, device=options.device)
    use_threads(model, context)
    for note in model.notes:
        screen.result(note)
    if model.trained_on == "synthetic":
        screen.say("this model was trained on synthetic images")
    skipped = _predict(model, inputs, options, screen, context)
    for note in inputs.passed_over.notes():
        screen.say(note)
    if not skipped.num_skipped:
        return EXIT_OK
    print("\n".join(skipped.lines()), file=sys.stderr)
    return EXIT_FAILED


def _predict(
    model: TrainedModel | ExportedModel,
    inputs: Inputs,
    options: argparse.Namespace,
    screen: Screen,
    context: Context,
) -> Skipped:
    """Predict all photos, and show and write each batch as it is computed."""
    from signs_dist.data.images import BadImageError
    from signs_dist.inference.predicting import predict
    from signs_dist.inference.skipped import Skipped

    top = None if options.top is None else min(options.top, len(model.classes))
    skipped, width, total = Skipped(), inputs.width, inputs.num_photos
    batches = predict(
        model,
        inputs,
        skip_bad=options.bad_images == "skip",
        batch=options.batch,
        top=top,
        max_megapixels=options.max_megapixels,
        num_threads=context.usable_cores,
    )
    try:
        with _opened(options, model, top) as writers, _progress(screen, context, options) as report:
            for rows in batches:
                for write in writers:
                    write(rows)
                skipped.add(rows)
                if not options.quiet:
                    width = max(width, 0 if total is not None else max(len(one_line(row["path"])) for row in rows))
                    screen.say("\n".join(f"{one_line(row['path']):<{width}}  {_found(row, top)}" for row in rows))
                report("predicting", skipped.num_photos, total or skipped.num_photos)
    except BadImageError as error:
        kept = f" What was predicted before is in {options.jsonl}." if options.jsonl else " Nothing was written."
        raise UserError(
            f"cannot read the photo {one_line(error.path)}: {error.reason}.{kept} To go on without such photos, "
            f"omit --bad-images stop."
        ) from error
    return skipped


def _outputs(options: argparse.Namespace) -> dict[str, Path | None]:
    """The output files by flag."""
    return {"--json": options.json, "--jsonl": options.jsonl, "--csv": options.csv}


def _check_outputs(outputs: dict[str, Path | None], inputs: Inputs) -> None:
    """Refuse output files that cannot be written, before the work. Raises UserError."""
    given = {flag: file for flag, file in outputs.items() if file is not None}
    for file in given.values():
        same = [other for other, path in given.items() if path == file]
        if len(same) > 1:
            raise UserError(f"{' and '.join(same)} name the same file, {file}. Choose another for one of them.")
        known = [path for photos in inputs.known if photos is not None for path in photos] if file.exists() else []
        require_writable(file, keep=known)


@contextlib.contextmanager
def _opened(options: argparse.Namespace, model: TrainedModel | ExportedModel, top: int | None) -> Iterator[list[Write]]:
    """Yield the functions that write a prediction to each of the output files."""
    from signs_dist.inference.prediction_files import csv_rows, json_lines, json_rows

    about = {
        "run": str(options.model),
        "weights": str(model.source),
        "trained_on": model.trained_on,
        "classes": list(model.classes),
    }
    with contextlib.ExitStack() as stack:
        writers: list[Write] = []
        if options.json is not None:
            writers.append(stack.enter_context(json_rows(options.json, about)))
        if options.jsonl is not None:
            writers.append(stack.enter_context(json_lines(options.jsonl)))
        if options.csv is not None:
            writers.append(stack.enter_context(csv_rows(options.csv, model.classes, top)))
        yield writers


@contextlib.contextmanager
def _progress(
    screen: Screen, context: Context, options: argparse.Namespace
) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function to call with the progress. A bar is below the lines, or on standard error."""
    from signs_dist.console.screen import Screen

    if options.quiet or not (context.is_terminal or sys.stderr.isatty()):
        yield lambda *_: None  # each line tells how far it is
        return
    own = screen if context.is_terminal else Screen(is_terminal=True, file=sys.stderr)
    with own.preparing() as report:
        yield report


def _found(row: Prediction, top: int | None) -> str:
    """What was found in a photo, for its line."""
    from signs_dist.console.screen import percent

    if "error" in row:
        return f"skipped: {row['error']}"
    shown = row["probabilities"] if top is not None else {row["class"]: row["probability"]}
    return "  ".join(f"{one_line(name):>4}  {percent(share):>7}" for name, share in shown.items())


if __name__ == "__main__":
    sys.exit(run_command(main))
