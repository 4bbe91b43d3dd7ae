"""Export a trained model to files that others use without this project.

python -m signs_dist.export RUN_DIR --format onnx
python -m signs_dist.export RUN_DIR --format safetensors --weights best --out handed-on
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from signs_dist.console.command import CommandParser, filled_text, run_command
from signs_dist.errors import EXIT_OK
from signs_dist.inference.export_files import MODEL_FILES


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.export",
        description="Export a trained model: its weights with preprocessing, classes, accuracy and a model card. "
        "After writing, the export is run without signs_dist on the validation photos, and compared with the run.",
        epilog="Exit codes: 0 done, 1 the export differs from the run and was not kept, 2 wrong input, "
        "75 or 130 stopped by a signal.",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="run folder made by signs_dist.train")
    parser.add_argument(
        "--format",
        required=True,
        choices=tuple(MODEL_FILES),
        help="onnx: for onnxruntime; torch: a .pt2 file for bare torch; safetensors: the weights, for timm where the "
        "network is of timm",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder to make (default: exports/<run>-<format>)")
    parser.add_argument(
        "--weights", default="final", metavar="NAME", help="final, best, last or a file (default: final)"
    )
    parser.add_argument(
        "--data",
        type=filled_text,
        metavar="DIR",
        help="check it on this data set with the same classes (default: that of the training)",
    )
    parser.add_argument("--force", action="store_true", help="replace an earlier export at --out")
    parser.add_argument("--quiet", action="store_true", help="print the folder only")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Export as the arguments say."""
    options = build_parser().parse_args(arguments)

    from signs_dist.console.screen import Screen, percent
    from signs_dist.console.streams import lasting
    from signs_dist.environment.context import read_context
    from signs_dist.exporting.placing import default_out, require_free
    from signs_dist.run_folder.folder import RunFolder

    context = read_context()
    screen = Screen(is_terminal=context.is_terminal, quiet=options.quiet, file=lasting(sys.stdout))
    RunFolder.open(options.run_dir)  # refuses a wrong folder before the slow imports
    out = options.out or default_out(options.run_dir, options.format)
    require_free(out, options.run_dir, force=options.force)

    from signs_dist.exporting.formats import FORMATS

    FORMATS[options.format].require(f"--format {options.format}")
    from signs_dist.exporting.run import export_model
    from signs_dist.inference.trained_model import read_trained_model, use_threads

    model = read_trained_model(options.run_dir, weights=options.weights, device="cpu")
    use_threads(model, context)
    screen.say(f"weights {model.source}")
    for note in model.notes:
        screen.result(note)
    with screen.preparing() as report:
        exported = export_model(
            model,
            options.format,
            out,
            data=options.data,
            num_cores=context.usable_cores,
            report=report,
            say=screen.say,
        )
    for result in exported.record.results:
        low, high = (100 * share for share in result.interval)
        screen.say(
            f"{result.split} accuracy {percent(result.accuracy)} ({result.num_correct:,}/{result.num_images:,} images, "
            f"95 % interval {low:.1f} to {high:.1f} %)"
        )
    files = ", ".join(f"{name} ({size:,} bytes)" for name, size in exported.sizes.items())
    screen.result(f"{exported.folder}: {files}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
