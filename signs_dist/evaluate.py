"""Judge a trained model on a split of its data set, or of another.

python -m signs_dist.evaluate RUN_DIR --split test
python -m signs_dist.evaluate RUN_DIR --data OTHER_PHOTOS --weights best --json scores.json
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from signs_dist.console.command import CommandParser, run_command
from signs_dist.errors import EXIT_OK, UserError


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.evaluate",
        description="Judge a trained model: accuracy with its 95 % interval, accuracy per class, confusion matrix.",
        epilog="Exit codes: 0 done, 2 wrong input, 130 interrupted.",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="run folder made by signs_dist.train")
    parser.add_argument("--split", choices=("train", "val", "test"), default="val", help="which images (default: val)")
    parser.add_argument("--data", metavar="DIR", help="another data set with the same classes")
    parser.add_argument(
        "--weights", default="final", metavar="NAME", help="final, best, last or a file (default: final)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to a file as well")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
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
    RunFolder.open(options.run_dir)

    from signs_dist.config.settings import LossConfig
    from signs_dist.data.folder import has_split, index_split
    from signs_dist.data.loader import EvaluationLoader, choose_loader_settings
    from signs_dist.data.sets import open_split, prepare_synthetic
    from signs_dist.distributed.device_choice import choose_device
    from signs_dist.distributed.strategy import SingleProcess
    from signs_dist.files import write_json
    from signs_dist.learning.losses import build_loss
    from signs_dist.learning.metrics import Score
    from signs_dist.training import loop
    from signs_dist.training.score_table import score_fields, show_score
    from signs_dist.training.trained_model import open_trained

    strategy = SingleProcess(choose_device(context, options.device))
    trained = open_trained(options.run_dir, options.weights, strategy.device, context)
    config = trained.config
    with screen.preparing() as report:
        if options.data is None and trained.data["name"] == "synthetic":
            name = "synthetic"
            root = prepare_synthetic(config.data, num_processes=context.usable_cores, report=report)
        else:
            name = options.data or trained.data["name"]
            root = Path(options.data or trained.data["root"]).expanduser()
        if root.is_dir() and not has_split(root, options.split):
            present = [split for split in ("train", "val", "test") if has_split(root, split)]
            raise UserError(
                f"--split {options.split}: {root} has only {', '.join(present)}. Type --split {present[-1]}."
            )
        index = index_split(root, options.split, classes=trained.classes)
        source, fingerprint = open_split(index, config.data, num_threads=context.usable_cores, report=report)

    settings = choose_loader_settings(
        config.data,
        usable_cores=context.usable_cores,
        on_gpu=strategy.device.type == "cuda",
        per_sample_work=config.data.storage == "files",
    )
    loss_function = build_loss(LossConfig(name=config.loss.name, label_smoothing=0.0), len(trained.classes))
    sums = loop.evaluate(
        loop.Judge(trained.model, loss_function, trained.precision, flip_average=config.evaluate.flip_average),
        EvaluationLoader(source, len(index), config.evaluate.batch, strategy.shard, settings),
        trained.prepare,
        len(trained.classes),
    )
    score = Score.from_sums(strategy.total(sums.tensors()))

    screen.say(f"weights {trained.source}")
    show_score(screen, options.split, score, trained.classes, name)
    if options.json is not None:
        about = {"data": name, "split": options.split, "fingerprint": fingerprint, "weights": str(trained.source)}
        write_json(
            options.json, about | {"classes": list(trained.classes)} | score_fields(options.split, score, in_full=True)
        )
        screen.say(f"numbers are in {options.json}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
