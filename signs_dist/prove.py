"""Train parts of an exact run again, and compare: a receipt that others can check.

python -m signs_dist.prove RUN_DIR                                  three parts between two states, chosen at random
python -m signs_dist.prove RUN_DIR --all --processes 2              all of it, on two processes
python -m signs_dist.prove --receipt receipt.json --data PHOTOS     somebody else's run, from the beginning
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist.console.command import (
    MOST_PROCESSES,
    MOST_SEED,
    CommandParser,
    filled_text,
    run_command,
    whole_number,
)
from signs_dist.errors import UserError

if TYPE_CHECKING:
    from signs_dist.proving.claim import Claim


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.prove",
        description="Train parts of an exact run again, from its saved states or from its receipt alone, and compare "
        "weights, optimizer and numbers bit for bit.",
        epilog="Exit codes: 0 PASS, 1 FAIL, 2 wrong input, 4 this machine computes other bits than the run did and "
        "cannot tell, 75 or 130 stopped by a signal.",
    )
    parser.add_argument("run_dir", type=Path, nargs="?", metavar="RUN_DIR", help="run folder of a finished exact run")
    parser.add_argument("--receipt", type=Path, metavar="FILE", help="a receipt.json instead of a run folder")
    parser.add_argument("--data", type=filled_text, metavar="PATH", help="where the photos are on this machine")
    number = parser.add_mutually_exclusive_group()
    number.add_argument(
        "--segments",
        type=whole_number(1_000_000),
        metavar="N",
        help="parts between two kept states to train again (default: 3)",
    )
    number.add_argument("--all", action="store_true", help="train all parts again")
    number.add_argument(
        "--epochs", type=whole_number(1_000_000_000), metavar="K", help="with --receipt: the first K epochs only"
    )
    parser.add_argument(
        "--processes", type=whole_number(MOST_PROCESSES), default=1, metavar="N", help="processes (default: 1)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--seed", type=whole_number(MOST_SEED), metavar="S", help="chooses the parts (default: a new one, printed)"
    )
    parser.add_argument("--by", type=filled_text, metavar="NAME", help="a name to write into the receipt")
    parser.add_argument(
        "--receipt-out", type=Path, metavar="FILE", help="write the receipt there, not into the run folder"
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Prove as the arguments say."""
    options = build_parser().parse_args(arguments)
    _require_legal(options)

    import tempfile

    from signs_dist.environment.context import read_context
    from signs_dist.files import require_writable
    from signs_dist.proving.claim import open_receipt, open_run

    if read_context().world_size > 1:
        raise UserError(
            "prove starts its own processes: start it with plain python, and name their number: --processes"
        )
    require_writable(options.receipt_out)
    if options.receipt is None:
        return _prove(options, open_run(options.run_dir))
    with tempfile.TemporaryDirectory(prefix="signs_dist-prove-") as folder:
        return _prove(options, open_receipt(options.receipt, Path(folder)))


def _require_legal(options: Any) -> None:
    """Refuse flags that do not go together. Raises `UserError`."""
    if (options.run_dir is None) == (options.receipt is None):
        raise UserError(
            "give a run folder, or a receipt: python -m signs_dist.prove RUN_DIR, or "
            "python -m signs_dist.prove --receipt FILE --data PHOTOS"
        )
    if options.receipt is not None and (options.segments is not None or options.all):
        raise UserError(
            "--receipt has no states to begin from: all of the run is trained again. Type --epochs K for its first K "
            "epochs, in place of --segments or --all."
        )
    if options.receipt is None and options.epochs is not None:
        raise UserError(
            "--epochs is for a receipt. Of a run folder, --segments N chooses N parts, and --all takes all."
        )
    for name in ("segments", "epochs", "processes"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: at least 1.")
    if options.seed is not None and options.seed < 0:
        raise UserError(f"--seed {options.seed}: at least 0.")


def _prove(options: Any, claim: Claim) -> int:
    from signs_dist.proving.proof import Wishes, prove

    wishes = Wishes(
        number=options.segments,
        is_all=options.all,
        epochs=options.epochs,
        seed=options.seed,
        num_processes=options.processes,
        device=options.device,
        data=options.data,
        by=options.by,
        receipt_out=options.receipt_out,
    )
    return prove(claim, wishes, functools.partial(print, flush=True)).exit_code


if __name__ == "__main__":
    sys.exit(run_command(main))
